//go:build privileged && linux

package faults_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"physalia/cmd/physalia/colony"
)

// Rule 8: a server whose data directory is not what it acknowledged must not vote. Each of the cases stops one server or two,
// does something to their directories while the crowd works on, and starts them again; afterwards the true directory comes back.
func TestDirectory(t *testing.T) {
	w := begin(t, small())
	w.hurt = w.now()
	for _, c := range []struct {
		name string
		try  func(w *world)
	}{{"restored", restored}, {"swapped", swapped}, {"wiped", wiped}, {"flipped", flipped}} {
		if !t.Run(c.name, func(t *testing.T) { inner := *w; inner.T = t; c.try(&inner) }) {
			break // what comes next would suffer from it
		}
	}
	w.heals(func() error { return nil })
	w.awaitServers()
	w.verdict()
}

// dir is the data directory of a server.
func (w *world) dir(s *colony.Server) string { return filepath.Join(w.spec.Dir, s.Name) }

// mustRefuse starts a server, which must end by itself with an explanation that has all of some words.
func (w *world) mustRefuse(s *colony.Server, words ...string) {
	w.Helper()
	before := w.log(s)
	w.must(s.Start())
	w.eventually(s.Name+" ends by itself", func() bool { return !s.Running() })
	said := strings.TrimPrefix(w.log(s), before)
	for _, word := range words {
		if !strings.Contains(said, word) {
			w.Errorf("server %s ended, and did not mention %q:\n%s", s.Name, word, said)
		}
	}
	w.Logf("server %s refused:\n%s", s.Name, said)
}

func (w *world) log(s *colony.Server) string {
	w.Helper()
	text, err := os.ReadFile(s.Log)
	w.must(err)
	return string(text)
}

// restart starts a server that is well again, and waits until all servers are up and all clients served.
func (w *world) restart(s *colony.Server) {
	w.Helper()
	w.must(s.Start())
	w.awaitServers()
	w.mustWrite()
}

// An image of the directory is restored that is some seconds old.
func restored(w *world) {
	s := w.server("s1")
	image, newest := w.dir(s)+".image", w.dir(s)+".newest"
	w.must(s.Kill())
	w.must(os.CopyFS(image, os.DirFS(w.dir(s))))
	w.restart(s)
	w.must(s.Kill())
	w.must(errors.Join(os.Rename(w.dir(s), newest), os.Rename(image, w.dir(s))))
	w.mustRefuse(s, "forgotten")
	w.must(errors.Join(os.RemoveAll(w.dir(s)), os.Rename(newest, w.dir(s))))
	w.restart(s)
}

// R10: two servers get each other's directory.
func swapped(w *world) {
	a, b := w.server("s2"), w.server("s3")
	swap := func() {
		aside := w.dir(a) + ".aside"
		w.must(errors.Join(os.Rename(w.dir(a), aside), os.Rename(w.dir(b), w.dir(a)), os.Rename(aside, w.dir(b))))
	}
	w.must(errors.Join(a.Kill(), b.Kill()))
	swap()
	w.mustRefuse(a, "s2", "s3")
	w.mustRefuse(b, "s2", "s3")
	swap()
	w.must(a.Start())
	w.restart(b)
}

// R9: a directory is lost. Who starts there is somebody else, who hosts nothing and votes for nobody.
func wiped(w *world) {
	s := w.server("s4")
	aside := w.dir(s) + ".aside"
	w.must(s.Kill())
	w.must(errors.Join(os.Rename(w.dir(s), aside), os.Mkdir(w.dir(s), 0o700)))
	w.restart(s)
	hosted := slices.Sorted(maps.Values(w.identities("s4")))
	if !slices.Equal(hosted, []uint64{0, uint64(w.cells)}) {
		w.Errorf("the servers named s4, the new one and the lost one, host %v nodes", hosted)
	}
	w.must(s.Kill())
	w.must(errors.Join(os.RemoveAll(w.dir(s)), os.Rename(aside, w.dir(s))))
	w.restart(s)
}

// R6, H10: one bit of the log is flipped while the server is down, early and late. A directory that cannot be opened, or ends
// before what peers have heard, is refused.
func flipped(w *world) {
	s := w.server("s5")
	for _, part := range []float64{0.1, 0.9} {
		aside := w.dir(s) + ".aside"
		w.must(s.Kill())
		w.must(os.CopyFS(aside, os.DirFS(w.dir(s))))
		name := flip(w, filepath.Join(w.dir(s), "store"), part)
		w.Logf("flipped a bit at %.0f %% of %s", 100*part, name)
		w.mustRefuse(s)
		w.must(errors.Join(os.RemoveAll(w.dir(s)), os.Rename(aside, w.dir(s))))
		before := w.log(s)
		if w.must(s.Start()); !w.supported(s) { // the flipped copy had spoken to somebody before it was told, as the start that this is, too
			if said := strings.TrimPrefix(w.log(s), before); !strings.Contains(said, "two copies of this directory") {
				w.Fatalf("the directory as it was is refused:\n%s", said)
			}
			w.must(s.Start())
		}
		w.awaitServers()
		w.mustWrite()
	}
}

// supported waits until a server that was started is supported by all others, so that none of them has anything against it, or has ended;
// it reports which.
func (w *world) supported(s *colony.Server) bool {
	w.Helper()
	all := fmt.Sprintf("} %d\n", len(w.colony.Servers)-1)
	w.eventually(s.Name+" is supported by all others, or ends", func() bool {
		answer, err := http.Get("http://" + s.Ops + "/metrics")
		if err != nil {
			return !s.Running() // it does not listen yet, or not any more
		}
		text, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return !s.Running()
		}
		_, held, _ := strings.Cut(string(text), "\nphysalia_support_held{")
		at := strings.Index(held, "} ")
		return at >= 0 && strings.HasPrefix(held[at:], all) || !s.Running()
	})
	return s.Running()
}

// flip inverts one bit of the newest log that has data, at a part of what was written into it.
func flip(w *world, store string, part float64) string {
	w.Helper()
	logs, err := filepath.Glob(filepath.Join(store, "*.log"))
	w.must(err)
	for i := len(logs) - 1; i >= 0; i-- {
		data, err := os.ReadFile(logs[i])
		w.must(err)
		end := len(strings.TrimRight(string(data), "\x00")) // logs are made longer than what is written
		if end < 20_000 {                                   // a tenth of less may not have been heard of by anybody
			continue
		}
		data[int(part*float64(end))] ^= 1
		w.must(os.WriteFile(logs[i], data, 0o600))
		return filepath.Base(logs[i])
	}
	w.Fatalf("no log in %s has data", store)
	return ""
}
