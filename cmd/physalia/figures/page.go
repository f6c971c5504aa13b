package figures

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"

	"physalia/sim/lab"
)

// Page is what the page says beside the results.
type Page struct {
	Seed    uint64
	Command string // that makes it again
	Results []lab.Result
}

// shown is a result as the page shows it.
type shown struct {
	lab.Result
	Parameters string
	Pictures   []picture
}

// picture is a figure with its drawing, which the template must not escape.
type picture struct {
	lab.Figure
	Drawing template.HTML
}

// WritePage writes one page with all figures in it: it refers to nothing outside.
func WritePage(w io.Writer, p *Page) error {
	// The drawings are made here and not read back, so that a page is whole even when no file was written.
	var all []shown
	for _, r := range p.Results {
		parameters, err := json.MarshalIndent(r.Parameters, "", "  ")
		if err != nil {
			return fmt.Errorf("parameters of experiment %d: %w", r.Number, err)
		}
		s := shown{Result: r, Parameters: string(parameters)}
		for i := range r.Figures {
			svg, err := inline(&r.Figures[i])
			if err != nil {
				return err
			}
			s.Pictures = append(s.Pictures, picture{r.Figures[i], template.HTML(svg)}) // drawn here; the texts in it are escaped by the drawer
		}
		all = append(all, s)
	}
	return page.Execute(w, struct {
		*Page
		All []shown
	}{p, all})
}

// number shows a value in a table: what is small, with its exponent.
func number(v float64) string { return fmt.Sprintf("%.4g", v) }

// page is one document: style and drawings are inside, there is no script, and what is long is folded away.
//
// Verdicts are words first and weight second, never color alone; tables are narrow enough for a printed page.
var page = template.Must(template.New("page").Funcs(template.FuncMap{"number": number}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Physalia: the laboratory</title>
<style>
body { font: 16px/1.5 Georgia, "Liberation Serif", serif; color: #111; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, table, summary, nav { font-family: "Liberation Sans", Helvetica, Arial, sans-serif; }
h2 { border-top: 2px solid #111; padding-top: .6rem; margin-top: 3rem; }
figure { margin: 1.5rem 0; page-break-inside: avoid; }
figure svg { width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { font-size: .92rem; color: #333; }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
td, th { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { font-size: .8rem; background: #f6f6f6; padding: .5rem; overflow-x: auto; }
.confirms { font-weight: bold; } .contradicts { font-weight: bold; text-decoration: underline; }
</style>
</head>
<body>
<h1>Physalia: the laboratory</h1>
<p>Correlated failures, measured on cells that the real placement code placed, beside what the paper claims (Brooker, Chen, Ping:
<i>Millions of Tiny Databases</i>, NSDI 2020). Seed {{.Seed}}; made again, byte for byte, by <code>{{.Command}}</code>. All intervals cover 95 %.</p>
<nav><ol>{{range .All}}<li value="{{.Number}}"><a href="#experiment-{{.Number}}">{{.Title}}</a></li>{{end}}</ol></nav>
{{range .All}}
<h2 id="experiment-{{.Number}}">{{.Number}}. {{.Title}}</h2>
<p>{{.Question}}</p>
<table><tr><th>The paper</th><th>Here</th><th>Verdict</th></tr>
{{range .Findings}}<tr><td>{{.Paper}}</td><td>{{.Ours}}</td><td class="{{.Verdict}}">{{.Verdict}}</td></tr>
{{end}}</table>
{{range .Pictures}}<figure id="figure-{{.Name}}">{{.Drawing}}<figcaption>{{.Note}}</figcaption>
<details><summary>Data</summary><table><tr><th>series</th><th>{{.X.Label}}</th><th>{{.Y.Label}}</th><th>from</th><th>to</th></tr>
{{range $s := .Series}}{{range .Points}}<tr><td>{{$s.Name}}</td><td class="n">{{number .X}}</td><td class="n">{{number .Y}}</td><td class="n">{{number .Lo}}</td><td class="n">{{number .Hi}}</td></tr>
{{end}}{{end}}</table></details></figure>
{{end}}<details><summary>Method and parameters</summary><ul>{{range .Method}}<li>{{.}}</li>{{end}}</ul><pre>{{.Parameters}}</pre></details>
{{end}}
</body>
</html>
`))
