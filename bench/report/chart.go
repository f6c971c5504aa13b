package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// chart is a line chart with categories along x and a logarithmic y: what is compared differs by orders of magnitude.
type chart struct {
	title, xLabel, yLabel string   // the y label names the unit
	xs                    []string // the categories, in order
	lines                 []line   // one for each subject or system
}

// line is one row of figures, one for each category; zero or less is none, and breaks the line.
type line struct {
	name  string    // in the legend
	color string    // as SVG has it
	dash  string    // of the stroke; empty: solid
	ys    []float64 // as many as there are categories
}

// Sizes of a chart, in pixels: the plot, and what surrounds it.
const (
	plotWidth, plotHeight = 560, 360
	left, top, bottom     = 80, 46, 56
	legendWidth           = 190
)

// bounds are the powers of ten around all figures; false when there are none.
func (c *chart) bounds() (low, high float64, ok bool) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, l := range c.lines {
		for _, y := range l.ys {
			if y > 0 {
				low, high = min(low, y), max(high, y)
			}
		}
	}
	if low > high {
		return 0, 0, false
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	return low, max(high, low+1), true // one decade at least, so that a single figure has a scale
}

// svg draws the chart; it is empty when there is nothing to draw.
func (c *chart) svg() string {
	low, high, ok := c.bounds()
	if !ok {
		return ""
	}
	x := func(i int) float64 { return left + (float64(i)+0.5)*plotWidth/float64(len(c.xs)) }
	y := func(v float64) float64 { return top + plotHeight*(1-(math.Log10(v)-low)/(high-low)) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		left+plotWidth+legendWidth, top+plotHeight+bottom)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	text(&b, left, 24, "start", 15, c.title)
	c.axes(&b, x, y, low, high)
	// Each line is followed by its row of the legend.
	for i, l := range c.lines {
		l.draw(&b, x, y)
		at := float64(top + 10 + 18*i)
		fmt.Fprintf(&b, `<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n",
			left+plotWidth+14, at, left+plotWidth+42, at, l.color, l.dash)
		text(&b, left+plotWidth+48, at+4, "start", 12, l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axes draws frame, grid, ticks and labels.
func (c *chart) axes(b *strings.Builder, x func(int) float64, y func(float64) float64, low, high float64) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="black"/>`+"\n", left, top, plotWidth, plotHeight)
	// A grid line for each power of ten.
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#cccccc"/>`+"\n", left, y(v), left+plotWidth, y(v))
		text(b, left-8, y(v)+4, "end", 12, short(v))
	}
	for i, name := range c.xs {
		text(b, x(i), top+plotHeight+18, "middle", 12, name)
	}
	text(b, left+plotWidth/2, top+plotHeight+42, "middle", 13, c.xLabel)
	fmt.Fprintf(b, `<text x="20" y="%d" text-anchor="middle" font-size="13" transform="rotate(-90 20 %d)">%s</text>`+"\n",
		top+plotHeight/2, top+plotHeight/2, html.EscapeString(c.yLabel))
}

// short is a power of ten as people write it.
func short(v float64) string {
	// Axes go from thousandths of a processor to hundreds of thousands of reads.
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.0fM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

// draw draws one line with a point for each figure.
func (l line) draw(b *strings.Builder, x func(int) float64, y func(float64) float64) {
	var run []string
	// What was collected is drawn where a figure is missing, and at the end.
	flush := func() {
		if len(run) > 1 {
			fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", strings.Join(run, " "), l.color, l.dash)
		}
		run = nil
	}
	for i, v := range l.ys {
		if v <= 0 {
			flush()
			continue
		}
		// The figure itself shows when a pointer rests on its point.
		run = append(run, fmt.Sprintf("%.1f,%.1f", x(i), y(v)))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s: %.4g</title></circle>`+"\n", x(i), y(v), l.color, html.EscapeString(l.name), v)
	}
	flush()
}

// text writes a text.
func text(b *strings.Builder, x, y float64, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, anchor, size, html.EscapeString(s))
}

// colors of the systems; a system that is not among them is grey.
var colors = map[string]string{"physalia": "#7b2d8e", "etcd": "#2a7de1", "raft/v3": "#2e8b57", "hashicorp/raft": "#d9822b"}

// dashes tell numbers of groups of one system apart, by their order.
var dashes = []string{"", "8 4", "3 3", "10 3 2 3", "1 4"}

// styled gives every line the color of its system, and a stroke of its own among the lines of that system.
func styled(system string, before []line) (color, dash string) {
	color = colors[system]
	if color == "" {
		color = "#777777"
	}
	// Lines of one system have one color.
	n := 0
	for _, l := range before {
		if l.color == color {
			n++
		}
	}
	return color, dashes[min(n, len(dashes)-1)]
}
