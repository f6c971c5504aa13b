// Package figures draws what package sim/lab measured: SVG for the page and for print, PNG for everybody else, and one page that needs
// no network. It decides nothing, and the same data give the same bytes.
//
// Series are told apart three times over: by color (the palette of Okabe and Ito, which color-blind people can tell apart, in an
// order whose lightness differs too), by the form of their marks, and by the dashes of their lines. So a figure can be read
// in grey.
//
// A picture shows points, intervals and the words that are needed to read them; how to read it stands below it on the page (Figure.Note), and the
// numbers stand in the JSON and in a folded table.
package figures
