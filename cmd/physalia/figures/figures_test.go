package figures

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"physalia/sim/lab"
)

// sample is a figure with everything that a figure can have.
func sample() *lab.Figure {
	return &lab.Figure{Name: "0-sample", Title: "Everything", Note: "a < b & c", X: lab.Axis{Label: "probability", Log: true, Min: 0.001, Max: 1}, Y: lab.Axis{Label: "share (%)", Log: true, Min: 1e-9, Max: 1},
		Series: []lab.Series{
			{Name: "5 (computed)", Style: lab.StyleExact, Points: []lab.Point{{X: 0.001, Y: 1e-8}, {X: 1, Y: 1}}},
			{Name: "five", Style: lab.StyleMarks, Points: []lab.Point{{X: 0.01, Y: 1e-4, Lo: 1e-5, Hi: 1e-3}, {X: 0.001, Y: 0, Hi: 1e-3}}},
			{Name: "a line", Points: []lab.Point{{X: 0.01, Y: 0, Hi: 0.1}, {X: 1, Y: 0.5, Lo: 0.4, Hi: 0.6}}},
			{Name: "steps", Style: lab.StyleSteps, Points: []lab.Point{{X: 0.01, Y: 0.2, Lo: 0.2, Hi: 0.2}, {X: 1, Y: 0.1, Lo: 0.1, Hi: 0.1}}},
			{Name: "the paper's", Style: lab.StylePaper, Points: []lab.Point{{X: 0.001, Y: 0.29, Lo: 0.29, Hi: 0.29}, {X: 1, Y: 0.29, Lo: 0.29, Hi: 0.29}}},
			{Name: "nothing"},
		}}
}

// A drawing has the words of its figure, is well-formed, and is the same every time.
func TestDrawings(t *testing.T) {
	var one, two, picture bytes.Buffer
	if err := errors.Join(WriteSVG(&one, sample()), WriteSVG(&two, sample()), WritePNG(&picture, sample())); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same figure was drawn differently")
	}
	for d := xml.NewDecoder(bytes.NewReader(one.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
	for _, word := range []string{"Everything", "probability", "share (%)", "five", "a line", "steps", "the paper"} {
		if !strings.Contains(one.String(), word) {
			t.Errorf("%q is not in the drawing", word)
		}
	}
	if strings.Contains(one.String(), "NaN") || strings.Contains(one.String(), "Inf") {
		t.Error("something was drawn nowhere")
	}
	img, err := png.Decode(&picture)
	if err != nil || img.Bounds().Dx() < 1200 {
		t.Fatalf("%v: %v", err, img)
	}
}

// An empty figure, and one in which all is zero, can be drawn too.
func TestDrawingsOfNothing(t *testing.T) {
	for _, f := range []*lab.Figure{{Name: "empty"}, {Name: "zero", Series: []lab.Series{{Name: "a", Points: []lab.Point{{}, {}}}}}} {
		var b bytes.Buffer
		if err := WriteSVG(&b, f); err != nil || strings.Contains(b.String(), "NaN") {
			t.Errorf("%s: %v\n%s", f.Name, err, b.String())
		}
	}
}

// The page has everything in it and refers to nothing outside; texts are escaped.
func TestPageStandsAlone(t *testing.T) {
	r := lab.Result{Number: 1, Name: "sample", Title: "A <title>", Question: "Why?", Parameters: map[string]int{"cells": 7}, Figures: []lab.Figure{*sample()},
		Findings: []lab.Finding{{Paper: "says", Ours: "measured", Verdict: lab.Confirms}}}
	var b bytes.Buffer
	if err := WritePage(&b, &Page{Seed: 7, Command: "make it", Results: []lab.Result{r}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A &lt;title&gt;", "a &lt; b &amp; c", "<svg", "says", "measured", "confirms", "make it", "Why?", "&#34;cells&#34;: 7"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if strings.Contains(b.String(), "<?xml") {
		t.Error("the header of an XML document is inside the page")
	}
	// Namespaces are names, not references.
	text := strings.NewReplacer("http://www.w3.org/2000/svg", "", "http://www.w3.org/1999/xlink", "").Replace(b.String())
	if m := regexp.MustCompile(`https?://[^ "<]*|src=|<link|url\(`).FindString(text); m != "" {
		t.Errorf("the page refers to %s", m)
	}
}

// Write writes data and drawings under names that say what they are.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	r := lab.Result{Number: 9, Name: "sample", Figures: []lab.Figure{*sample()}}
	names, err := Write(dir, &r)
	if err != nil || strings.Join(names, " ") != "9-sample.json 0-sample.svg 0-sample.png" {
		t.Fatalf("%v, %v", names, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "9-sample.json"))
	var back lab.Result
	if err = errors.Join(err, json.Unmarshal(text, &back)); err != nil || back.Figures[0].Series[1].Points[0].Hi != 1e-3 {
		t.Errorf("%v: %+v", err, back)
	}
	if _, err := Write(filepath.Join(dir, "none"), &r); err == nil {
		t.Error("nothing was written, and nothing said")
	}
}
