package figures

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"physalia/sim/lab"
)

// The size of a figure: what fits the width of a printed page, with letters of nine points.
const (
	width      = 24 * vg.Centimeter
	height     = 12 * vg.Centimeter
	legendMost = 8 * vg.Centimeter // to the right of the plot, so that it hides nothing
	dotsPerIn  = 150
	letters    = 9
	titles     = 11
	barCapSize = 3
	letterform = "Sans" // of the Liberation fonts, which the library brings along
)

// palette is that of Okabe and Ito without its yellow, which print loses.
var palette = []color.RGBA{
	{0x00, 0x72, 0xB2, 0xFF}, {0xD5, 0x5E, 0x00, 0xFF}, {0x00, 0x9E, 0x73, 0xFF}, {0x00, 0x00, 0x00, 0xFF},
	{0xE6, 0x9F, 0x00, 0xFF}, {0x56, 0xB4, 0xE9, 0xFF}, {0xCC, 0x79, 0xA7, 0xFF},
}

// glyphs tell series apart that are printed in grey; filled and open ones alternate with what crosses itself.
var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}}

// dashes change with every second series, since neighbours differ in their marks anyway.
var dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(2), vg.Points(2)}}

// Both formats are painted by the same code on different canvases, so that what was looked at in one is true of the other.
//
// WriteSVG and WritePNG draw one figure.
func WriteSVG(w io.Writer, f *lab.Figure) error {
	c := vgsvg.New(width, height)
	if err := paint(draw.New(c), f); err != nil {
		return err
	}
	_, err := c.WriteTo(w)
	return err
}

// WritePNG draws one figure at 150 dots per inch.
func WritePNG(w io.Writer, f *lab.Figure) error {
	c := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dotsPerIn))
	if err := paint(draw.New(c), f); err != nil {
		return err
	}
	_, err := vgimg.PngCanvas{Canvas: c}.WriteTo(w)
	return err
}

// paint draws the plot on the left and its legend on the right.
func paint(c draw.Canvas, f *lab.Figure) error {
	p := plot.New()
	p.Title.Text = f.Title
	p.Title.TextStyle.Font.Variant = letterform
	p.Title.TextStyle.Font.Size, p.Title.Padding = titles, vg.Points(6)
	axis(&p.X, f.X)
	axis(&p.Y, f.Y)
	p.Add(grid())
	names := plot.NewLegend()
	names.Top, names.Left, names.ThumbnailWidth, names.Padding = true, true, 1*vg.Centimeter, vg.Points(4)
	names.TextStyle.Font = font.From(names.TextStyle.Font, letters)
	names.TextStyle.Font.Variant = letterform
	look, most := -1, vg.Length(0)
	for i := range f.Series {
		// A computed line and the marks beside it have one look.
		if i == 0 || f.Series[i].Style != lab.StyleMarks || f.Series[i-1].Style != lab.StyleExact {
			look++
		}
		if err := add(p, &names, f, &f.Series[i], look); err != nil {
			return fmt.Errorf("draw figure %s, series %q: %w", f.Name, f.Series[i].Name, err)
		}
		most = max(most, names.TextStyle.Width(f.Series[i].Name))
	}
	if err := nameLines(&names, f); err != nil {
		return err
	}
	// The legend is as wide as its longest name, and the plot has the rest.
	legend := min(legendMost, max(most, names.TextStyle.Width(linesName))+names.ThumbnailWidth+vg.Points(28))
	limit(&p.X, f.X)
	limit(&p.Y, f.Y)
	headroom(&p.Y, f.Y)
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	inner := draw.Crop(c, vg.Points(8), -vg.Points(8), vg.Points(8), -vg.Points(8))
	label := p.X.Label.TextStyle
	label.Font.Size, label.XAlign, label.YAlign = letters+1, draw.XCenter, draw.YTop
	body := draw.Crop(inner, 2*(letters+1), -legend, 2*(letters+1), 0)
	p.Draw(body)
	// The library reserves room for the words of a logarithmic axis where they are not, so they are written here.
	inner.FillText(label, vg.Point{X: body.Center().X, Y: body.Min.Y - vg.Points(4)}, f.X.Label)
	label.Rotation = math.Pi / 2
	inner.FillText(label, vg.Point{X: inner.Min.X, Y: body.Center().Y}, f.Y.Label)
	names.Draw(draw.Crop(inner, inner.Size().X-legend+vg.Points(10), 0, 0, -vg.Points(24)))
	return nil
}

// axis sets the scale of one side.
func axis(to *plot.Axis, from lab.Axis) {
	to.Tick.Label.Font.Size, to.Tick.Label.Font.Variant, to.Label.TextStyle.Font.Variant = letters, letterform, letterform
	if from.Log {
		to.Scale, to.Tick.Marker = plot.LogScale{}, decades{}
	} else {
		to.Tick.Marker = even{}
	}
}

// limit ends an axis where the figure says. A linear axis begins at zero if nothing lies below: a picture that begins elsewhere makes small
// differences look large.
func limit(to *plot.Axis, from lab.Axis) {
	if from.Log {
		to.Min = from.Min
	} else {
		to.Min = min(from.Min, to.Min)
		if from.Min == 0 && to.Min > 0 {
			to.Min = 0
		}
	}
	if from.Max > 0 {
		to.Max = from.Max
	}
	if to.Max <= to.Min { // nothing happened at all: an axis without length cannot be drawn
		to.Max = to.Min + 1
	}
}

// headroom leaves a little above the highest mark or interval, which the frame would cut, unless the figure says where its axis ends.
func headroom(to *plot.Axis, from lab.Axis) {
	switch {
	case from.Max > 0: // the figure knows where its axis ends
	case from.Log: // a part of the picture's height, not of the value
		to.Max *= math.Pow(to.Max/to.Min, 0.03)
	default:
		to.Max += 0.03 * (to.Max - to.Min)
	}
}

// linesName says what the thin lines are.
const linesName = "thin lines: computed"

// nameLines says once what the lines are that have no marks of their own.
func nameLines(names *plot.Legend, f *lab.Figure) error {
	// One entry for all: their colors are those of the marks, which have names.
	if !slices.ContainsFunc(f.Series, func(s lab.Series) bool { return s.Style == lab.StyleExact }) {
		return nil
	}
	line, err := plotter.NewLine(plotter.XYs{{}, {}})
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: color.Gray{0x60}, Width: vg.Points(0.8)}
	names.Add(linesName, line)
	return nil
}

// even marks a linear axis at some six round numbers.
type even struct{}

// Ticks implements plot.Ticker.
func (even) Ticks(least, most float64) (ticks []plot.Tick) {
	// The largest of 1, 2 and 5 times a power of ten that leaves at least five steps.
	raw := (most - least) / 5
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range [...]float64{5, 2} {
		if m*step <= raw {
			step *= m
			break
		}
	}
	for i := int(math.Ceil(least/step - 1e-9)); float64(i)*step <= most*(1+1e-9); i++ {
		v := float64(i) * step
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.6g", v)})
	}
	return ticks
}

// decades marks powers of ten, every second or third of them where there are many, and their multiples: with a number at 2 and 5
// where there are few.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(least, most float64) (ticks []plot.Tick) {
	low, high := math.Floor(math.Log10(least)+1e-9), math.Ceil(math.Log10(most)-1e-9)
	each := max(1, int(math.Ceil((high-low)/8)))
	for e := low; e <= high; e++ {
		for m := 1.0; m < 10; m++ {
			v := m * math.Pow(10, e)
			if v < least*(1-1e-9) || v > most*(1+1e-9) {
				continue
			}
			label := ""
			if m == 1 && int(high-e)%each == 0 || (m == 2 || m == 5) && math.Log10(most/least) <= 2 {
				label = power(e, v)
			}
			if m == 1 || each == 1 {
				ticks = append(ticks, plot.Tick{Value: v, Label: label})
			}
		}
	}
	return ticks
}

// power writes a number near one in full, else with its exponent.
func power(e, v float64) string {
	if e >= -3 && e <= 4 {
		return fmt.Sprintf("%.6g", v)
	}
	return fmt.Sprintf("1e%d", int(e))
}

// grid is light enough to be read through, and darker where values are read.
func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = color.Gray{0xDD}, color.Gray{0xEE}
	return g
}

// add draws one series and names it.
func add(p *plot.Plot, names *plot.Legend, f *lab.Figure, s *lab.Series, look int) error {
	points := inside(f, s)
	if len(points) == 0 {
		return nil
	}
	ink := palette[look%len(palette)]
	line, marks, err := plotter.NewLinePoints(xys(points))
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: ink, Width: vg.Points(1.6), Dashes: dashes[look/2%len(dashes)]}
	marks.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: vg.Points(2.8), Shape: glyphs[look%len(glyphs)]}
	switch s.Style {
	// What is computed is thin and has no marks of its own.
	case lab.StyleExact:
		line.Width, line.Dashes = vg.Points(0.8), nil
		p.Add(line)
		return nil // its marks, which follow, have the name
	// The paper's figures are grey: they are not ours.
	case lab.StylePaper:
		line.LineStyle = draw.LineStyle{Color: color.Gray{0x60}, Width: vg.Points(1.2), Dashes: dashes[2]}
		p.Add(line)
		names.Add(s.Name, line)
		return nil
	// A course over time has too many points for marks and bars; the data have its intervals.
	case lab.StyleSteps:
		line.StepStyle = plotter.PostStep
		p.Add(line)
		names.Add(s.Name, line)
		return nil
	case lab.StyleMarks:
		names.Add(s.Name, marks)
	default:
		p.Add(line)
		names.Add(s.Name, line, marks)
	}
	p.Add(marks)
	bars, err := plotter.NewYErrorBars(intervals(points))
	if err != nil {
		return err
	}
	bars.LineStyle, bars.CapWidth = draw.LineStyle{Color: ink, Width: vg.Points(0.7)}, vg.Points(barCapSize)
	p.Add(bars)
	return nil
}

// inside puts what was measured below the beginning of a logarithmic axis onto it, and leaves out what lies before it. Marks without a
// line are left out there, too: where nothing was seen, seven bars on top of each other say nothing (the data have them).
func inside(f *lab.Figure, s *lab.Series) (out []lab.Point) {
	for _, q := range s.Points {
		below := f.Y.Log && q.Y < f.Y.Min
		if f.X.Log && q.X < f.X.Min || below && (s.Style == lab.StyleExact || s.Style == lab.StyleMarks) {
			continue
		}
		if f.Y.Log {
			q.Y, q.Lo, q.Hi = max(q.Y, f.Y.Min), max(q.Lo, f.Y.Min), max(q.Hi, f.Y.Min)
		}
		out = append(out, q)
	}
	return out
}

// xys are the points alone, as lines and marks want them.
func xys(points []lab.Point) plotter.XYs {
	out := make(plotter.XYs, len(points))
	for i, q := range points {
		out[i] = plotter.XY{X: q.X, Y: q.Y}
	}
	return out
}

// span is points with intervals, as error bars want them.
type span struct {
	plotter.XYs
	plotter.YErrors
}

// intervals turns the ends of intervals into what lies below and above each point.
func intervals(points []lab.Point) span {
	s := span{XYs: xys(points)}
	for _, q := range points {
		s.YErrors = append(s.YErrors, struct{ Low, High float64 }{q.Y - q.Lo, q.Hi - q.Y})
	}
	return s
}

// inline is a figure as it stands inside a page: without the header of an XML document.
func inline(f *lab.Figure) (string, error) {
	var b bytes.Buffer
	if err := WriteSVG(&b, f); err != nil {
		return "", err
	}
	at := bytes.Index(b.Bytes(), []byte("<svg"))
	if at < 0 {
		return "", fmt.Errorf("figure %s: the drawing is no SVG", f.Name)
	}
	return string(b.Bytes()[at:]), nil
}
