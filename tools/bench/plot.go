package bench

import (
	"bytes"
	"fmt"

	chart "github.com/wcharczuk/go-chart/v2"

	"stork/repo/durable"
)

// line is one line of a plot: a value for the first guest, the second, …
type line struct {
	name   string
	values []float64
}

// plotGuests draws lines over the number of guests into an SVG file.
func plotGuests(path, title, unit string, lines ...line) error {
	graph := chart.Chart{
		Title: title, Width: 760, Height: 420,
		Background:     chart.Style{Padding: chart.Box{Top: 48, Left: 24, Right: 24, Bottom: 24}},
		XAxis:          chart.XAxis{Name: "guests", ValueFormatter: whole},
		YAxis:          chart.YAxis{Name: unit, ValueFormatter: whole, Range: &chart.ContinuousRange{Max: largest(lines)}},
		YAxisSecondary: chart.HideYAxis(),
	}
	for i, l := range lines {
		series := chart.ContinuousSeries{Name: l.name, YValues: l.values, Style: chart.Style{StrokeColor: chart.GetDefaultColor(i), StrokeWidth: 2}}
		for k := range l.values {
			series.XValues = append(series.XValues, float64(k+1))
		}
		graph.Series = append(graph.Series, series)
	}
	graph.Series = append(graph.Series, names(lines))
	var svg bytes.Buffer
	if err := graph.Render(chart.SVG, &svg); err != nil {
		return fmt.Errorf("cannot draw %s: %w", path, err)
	}
	return durable.Disk{}.WriteFile(path, svg.Bytes(), 0o644)
}

// names labels each line at its end.
func names(lines []line) chart.Series {
	series := chart.AnnotationSeries{}
	for _, l := range lines {
		if n := len(l.values); n > 0 {
			series.Annotations = append(series.Annotations, chart.Value2{XValue: float64(n), YValue: l.values[n-1], Label: l.name})
		}
	}
	return series
}

func whole(v any) string { return fmt.Sprintf("%.0f", v) }

func largest(lines []line) float64 {
	most := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			most = max(most, v)
		}
	}
	return most * 1.05
}
