// Package report shows what a contest gave: a table for people, JSON for programs, and plots. Rounds are summed up as the median of each
// figure by itself; the JSON has every round.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"physalia/bench/contest"
	"physalia/bench/ground"
)

// Report is the JSON. Its names stay.
type Report struct {
	Ground     ground.Facts     `json:"ground"`               // what it was measured on
	ValueBytes int              `json:"value_bytes"`          // of each value
	PointS     float64          `json:"point_seconds"`        // how long each point was measured
	Procs      string           `json:"servers_environment"`  // variable that each server process was started with, and that holds for the clients
	Libraries  int              `json:"libraries"`            // that the clients of a subject share, each with connections of its own
	Results    []contest.Result `json:"results"`              // in the order in which they were measured
	Incomplete string           `json:"incomplete,omitempty"` // why not every subject had every round
}

// Write writes results.json, table.txt and the plots into a directory, and the table to standard output.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	// The table is shown and kept, so that it can be compared later without running anything.
	table := r.Table()
	files := map[string][]byte{"results.json": append(text, '\n'), "table.txt": []byte(table)}
	for name, svg := range r.plots() {
		files[name] = []byte(svg)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Print(table)
	return err
}

// subject are the results of one subject in all rounds.
type subject struct {
	name   string           // "etcd", "physalia, 1000"
	rounds []contest.Result // in order
}

// subjects are the results by subject, in the order of the first round.
func (r *Report) subjects() (all []*subject) {
	for _, result := range r.Results {
		name := result.System
		if result.Groups > 1 || result.Volumes == 1 {
			name = fmt.Sprintf("%s, %d", result.System, result.Groups)
		}
		// The first round brings them all, unless it was ended.
		i := slices.IndexFunc(all, func(s *subject) bool { return s.name == name })
		if i < 0 {
			i, all = len(all), append(all, &subject{name: name})
		}
		all[i].rounds = append(all[i].rounds, result)
	}
	return all
}

// median is the median over the rounds that have the figure; false when none has.
func (s *subject) median(figure func(*contest.Result) (float64, bool)) (float64, bool) {
	// Rounds without the figure, as of a subject that did not finish, do not count.
	var all []float64
	for i := range s.rounds {
		if x, ok := figure(&s.rounds[i]); ok {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	// Of an even number, the mean of the two in the middle.
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2, true
}

// at picks a figure of the point of one kind of work and one number of clients.
func at(kind contest.Kind, clients int, figure func(*contest.Point) float64) func(*contest.Result) (float64, bool) {
	return func(r *contest.Result) (float64, bool) {
		for i := range r.Points {
			if p := &r.Points[i]; p.Kind == kind && p.Clients == clients && p.Operations > 0 {
				return figure(p), true
			}
		}
		return 0, false
	}
}

// columns are the kinds and the numbers of clients that occur, in the order of their first occurrence.
func (r *Report) columns() (kinds []contest.Kind, clients []int) {
	for _, result := range r.Results {
		for _, p := range result.Points {
			if !slices.Contains(kinds, p.Kind) {
				kinds = append(kinds, p.Kind)
			}
			if !slices.Contains(clients, p.Clients) {
				clients = append(clients, p.Clients)
			}
		}
	}
	slices.Sort(clients)
	return kinds, clients
}
