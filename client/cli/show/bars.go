package show

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Unit is what a bar counts.
type Unit int

// The units.
const (
	InBytes Unit = iota
	InPackages
)

// Bars are progress bars on a terminal. Nothing is drawn before the first. It
// is for one goroutine at a time.
type Bars struct {
	w    io.Writer
	bars *mpb.Progress
}

// Bar is one of them.
type Bar struct{ bar *mpb.Bar }

// NewBars returns bars that are drawn on w.
func NewBars(w io.Writer) *Bars { return &Bars{w: w} }

// Add draws another bar, which goes when it is full.
func (b *Bars) Add(name string, total int64, unit Unit) *Bar {
	if b.bars == nil {
		b.bars = mpb.New(mpb.WithOutput(b.w), mpb.WithWidth(60))
	}
	counters := decor.Counters(decor.SizeB1000(0), "% .1f / % .1f")
	if unit == InPackages {
		counters = decor.CountersNoUnit("%d / %d packages")
	}
	return &Bar{b.bars.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")), mpb.AppendDecorators(counters))}
}

// Set moves a bar.
func (b *Bar) Set(done int64) { b.bar.SetCurrent(done) }

// Drop takes a bar away.
func (b *Bar) Drop() { b.bar.Abort(true) }

// Close waits until what was drawn is gone; all bars are full or dropped.
func (b *Bars) Close() {
	if b.bars != nil {
		b.bars.Wait()
		b.bars = nil
	}
}
