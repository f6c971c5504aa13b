package figures

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"physalia/sim/lab"
)

// Write writes one experiment into a directory: its JSON, and each figure as SVG and PNG. It returns the names of the files.
func Write(dir string, r *lab.Result) ([]string, error) {
	var names []string
	// Each file is filled in memory first, so that a figure that cannot be drawn leaves no half of a file behind.
	write := func(name string, fill func(io.Writer) error) error {
		var b bytes.Buffer
		if err := fill(&b); err != nil {
			return err
		}
		names = append(names, name)
		return os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
	}
	// The data are indented: they are read by people too, and differ line by line between two versions.
	err := write(fmt.Sprintf("%d-%s.json", r.Number, r.Name), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(r)
	})
	for i := range r.Figures {
		f := &r.Figures[i]
		if err == nil {
			err = write(f.Name+".svg", func(w io.Writer) error { return WriteSVG(w, f) })
		}
		if err == nil {
			err = write(f.Name+".png", func(w io.Writer) error { return WritePNG(w, f) })
		}
	}
	return names, err
}
