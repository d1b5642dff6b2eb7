package nest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"stork/nestd/internal/fetch"
	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/frames"
)

// parts is a plan for a package of which the nest has a good part already, in
// layers of other versions: which contents are read there, and which ranges of
// the repository's frames have the others.
type parts struct {
	text   []byte // of the file list
	list   *repo.FileList
	here   []herePart
	absent []unpack.Part // their frames lie in the ranges, one behind the other
	ranges []transfer.Range
}

// herePart is a file whose content another layer has.
type herePart struct {
	index int // the place in the list of its first name
	size  int64
	path  string // of a file in the store; empty: it has no content
}

// When it is worth to fetch parts: what is missing of the files, and what
// would be fetched for it, may have so much of the whole. Every answer of a
// server costs time in which something else could come, so gaps between
// ranges are fetched too if they are small.
const (
	mostAbsent   = 0.8
	mostFetched  = 0.8
	smallGap     = 16 << 10 // bytes
	otherLayers  = 3        // layers of other versions that are looked at
	mostListPart = 0.5      // of the blob that the file list may have
)

// planParts finds out what is missing. It returns nil if it is better to fetch
// the whole package, which is so for every first version.
func (b *build) planParts(ctx context.Context) (*parts, error) {
	blob, manifest := b.blob(), b.manifest()
	if blob.Size < frames.MinBlob || float64(manifest.Size) > mostListPart*float64(blob.Size) || manifest.Size > repo.MaxFileList {
		return nil, nil
	}
	have, err := b.contents(ctx)
	if err != nil || len(have) == 0 {
		return nil, err
	}
	p := new(parts)
	if p.text, err = b.nest.documents.fetch(ctx, b.repository, manifest); err != nil {
		return nil, err
	}
	if p.list, err = b.listOf(p.text); err != nil {
		return nil, err
	}
	layout := frames.LayoutOf(p.list)
	if !layout.Useful(blob.Size) {
		return nil, nil
	}
	missing := p.divide(have)
	if float64(missing) > mostAbsent*float64(layout.Size()) {
		return nil, nil
	}
	if missing == 0 {
		return p, nil
	}
	index, err := b.framesIndex(ctx, layout)
	if err != nil {
		return nil, err
	}
	if total := p.locate(index); float64(total) > mostFetched*float64(blob.Size) {
		return nil, fmt.Errorf("the missing files are %d bytes in frames, the package has %d", total, blob.Size)
	}
	return p, nil
}

// contents returns where in the store the contents of other layers of this
// package lie. A layer may be removed at any moment: then reading it fails.
func (b *build) contents(ctx context.Context) (map[repo.Object]string, error) {
	layers, err := b.nest.State.LayersNamed(ctx, b.record.Name, otherLayers)
	if err != nil {
		return nil, err
	}
	have := map[repo.Object]string{}
	for _, layer := range layers {
		dir, placed := b.nest.Store.Layer(layer.ID)
		if !placed {
			continue
		}
		text, err := b.nest.documents.held(layer.Manifest.Digest)
		if err != nil {
			continue // its file list is fetched again when somebody needs it
		}
		list, err := repo.DecodeFileList(text)
		if err != nil {
			return nil, err
		}
		for i := range list.Files {
			f := &list.Files[i]
			content := repo.Object{Digest: f.Digest, Size: f.Size}
			if _, known := have[content]; !known && f.Type == repo.Regular && !f.Has(repo.Ghost) {
				have[content] = dir + f.Path
			}
		}
	}
	return have, nil
}

// divide sorts files into those whose content is here and those for which it
// is not, and returns how many bytes are missing, each content counted once.
func (p *parts) divide(have map[repo.Object]string) (missing int64) {
	first := map[string]bool{} // names of inodes
	seen := map[repo.Object]bool{}
	for i := range p.list.Files {
		f := &p.list.Files[i]
		if f.Type != repo.Regular || f.Has(repo.Ghost) || f.LinkTo != "" && first[f.LinkTo] {
			continue
		}
		first[f.Path] = true
		content := repo.Object{Digest: f.Digest, Size: f.Size}
		path, here := have[content]
		if here || f.Size == 0 {
			p.here = append(p.here, herePart{index: i, size: f.Size, path: path})
			continue
		}
		p.absent = append(p.absent, unpack.Part{Index: i, Size: f.Size})
		if !seen[content] {
			seen[content] = true
			missing += f.Size
		}
	}
	return missing
}

// locate finds the ranges in which the frames of what is missing lie, and
// where each frame will be in the file that has them one behind the other. It
// returns how long that is.
func (p *parts) locate(index *frames.Index) (total int64) {
	var all []frames.Frame
	for n := range p.absent {
		part := &p.absent[n]
		f := &p.list.Files[part.Index]
		part.Frames = index.Frames(repo.Object{Digest: f.Digest, Size: f.Size})
		all = append(all, part.Frames...)
	}
	slices.SortFunc(all, func(a, b frames.Frame) int { return cmp.Compare(a.Offset, b.Offset) })
	for gap := int64(smallGap); p.ranges == nil || len(p.ranges) > fetch.MaxRanges; gap *= 2 {
		p.ranges = joined(all, gap)
	}
	starts := make([]int64, len(p.ranges))
	for n, r := range p.ranges {
		starts[n] = total
		total += r.Len()
	}
	for _, part := range p.absent {
		for n := range part.Frames {
			f := &part.Frames[n]
			at, _ := slices.BinarySearchFunc(p.ranges, f.Offset, func(r transfer.Range, offset int64) int { return cmp.Compare(r.To-1, offset) })
			f.Offset += starts[at] - p.ranges[at].From
		}
	}
	return total
}

// joined returns ranges that cover frames, which are in order, with no more
// than gap bytes between those that are fetched together.
func joined(all []frames.Frame, gap int64) []transfer.Range {
	var ranges []transfer.Range
	for _, f := range all {
		if n := len(ranges) - 1; n >= 0 && f.Offset <= ranges[n].To+gap {
			ranges[n].To = max(ranges[n].To, f.End())
			continue
		}
		ranges = append(ranges, transfer.Range{From: f.Offset, To: f.End()})
	}
	return ranges
}

// framesIndex fetches what says where the frames lie.
func (b *build) framesIndex(ctx context.Context, layout *frames.Layout) (*frames.Index, error) {
	file, err := b.fetchRanges(ctx, []transfer.Range{{To: layout.IndexSize()}}, nil)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text := make([]byte, layout.IndexSize())
	if _, err := io.ReadFull(file, text); err != nil {
		return nil, fmt.Errorf("cannot read index of frames: %w", err)
	}
	return layout.Decode(text)
}

// fetchRanges brings ranges of the package's frames, one behind the other.
func (b *build) fetchRanges(ctx context.Context, ranges []transfer.Range, progress func(fetch.Progress)) (*os.File, error) {
	// A guest that comes to wait for a prefetch does not hurry this: it is
	// little that is left to come.
	file, result, err := b.nest.Fetcher.Pieces(ctx, fetch.PiecesRequest{
		BaseURL: b.repository.pin.URL, Path: repo.FramesPath(b.record.Blob.Digest), Ranges: ranges,
		Priority: b.job.priority(), Progress: progress,
	})
	b.count(ctx, result)
	return file, err
}

// partsSource is the store's source of a package in parts.
type partsSource struct {
	here   []herePart
	absent *unpack.Package // nil: nothing was missing
	file   *os.File        // of a content that is here; nil: the current one is not
	empty  bool            // the current one has no content
}

// Next implements store.Source.
func (s *partsSource) Next() (index int, size int64, err error) {
	if err := s.Close(); err != nil {
		return 0, 0, err
	}
	if s.empty = false; len(s.here) == 0 {
		if s.absent == nil {
			return 0, 0, io.EOF
		}
		return s.absent.Next()
	}
	next := s.here[0]
	s.here = s.here[1:]
	if s.empty = next.size == 0; !s.empty {
		if s.file, err = os.Open(next.path); err != nil {
			return 0, 0, err
		}
	}
	return next.index, next.size, nil
}

// Read implements store.Source.
func (s *partsSource) Read(p []byte) (int, error) {
	switch {
	case s.empty:
		return 0, io.EOF
	case s.file != nil:
		return s.file.Read(p)
	case s.absent != nil:
		return s.absent.Read(p)
	}
	return 0, io.EOF
}

// Close closes the current file.
func (s *partsSource) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
