package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"physalia/sim/lab"
)

// Long runs are cut into pieces, experiments or pools, and what is finished is kept, so that an interruption costs one piece. A piece is a
// function of the program and of what was asked; both are in its key, so what does not fit is made anew and never mixed with the rest.

// programSum is a digest of the running program: a piece of another version may differ in any digit.
var programSum = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})

// unfinishedName is the file that lists what a report that was interrupted has finished; it goes when the report is whole.
const unfinishedName = "unfinished.json"

// unfinished is that file.
type unfinished struct {
	About    string            `json:"about"`
	Program  string            `json:"program"`
	Seed     uint64            `json:"seed"`
	Effort   float64           `json:"effort"`
	Finished map[string]string `json:"finished"` // by experiment, the digest of its JSON

	mu   sync.Mutex
	path string
}

// resume reads what an interrupted report in a directory has finished; none of it counts if anything but the choice of experiments differs.
func resume(o *reportFlags) (*unfinished, error) {
	program, err := programSum()
	if err != nil {
		return nil, fmt.Errorf("the digest of this program: %w", err)
	}
	u := &unfinished{About: "experiments of a report that was interrupted; the same command goes on with the others", Program: program, Seed: o.seed, Effort: o.effort,
		Finished: map[string]string{}, path: filepath.Join(o.out, unfinishedName)}
	text, err := os.ReadFile(u.path)
	if os.IsNotExist(err) || err == nil && o.fresh {
		return u, nil
	}
	if err != nil {
		return nil, err
	}
	var was unfinished
	if json.Unmarshal(text, &was) == nil && was.Program == u.Program && was.Seed == u.Seed && was.Effort == u.Effort && was.Finished != nil {
		u.Finished = was.Finished
	}
	return u, nil
}

// kept is the result of an experiment that was finished before, or nil.
func (u *unfinished) kept(dir string, e *lab.Experiment) *lab.Result {
	u.mu.Lock()
	sum, ok := u.Finished[e.Name]
	u.mu.Unlock()
	if !ok {
		return nil
	}
	r, digest, err := readResult(dir, e)
	if err != nil || digest != sum {
		return nil // it is run again
	}
	return r
}

// finish writes down that an experiment is finished, and returns its result as its file has it, so that a page is the same whether it
// was made in one go or not.
func (u *unfinished) finish(dir string, e *lab.Experiment) (*lab.Result, error) {
	r, digest, err := readResult(dir, e)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// The list is written anew after each experiment, so an interruption at any moment loses at most the one that ran.
	u.Finished[e.Name] = digest
	text, err := json.MarshalIndent(u, "", " ")
	if err != nil {
		return nil, err
	}
	return r, writeWhole(u.path, text)
}

// over ends a report that is whole.
func (u *unfinished) over() error {
	if err := os.Remove(u.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// readResult reads the JSON of an experiment. Its parameters stay as they were written.
func readResult(dir string, e *lab.Experiment) (*lab.Result, string, error) {
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d-%s.json", e.Number, e.Name)))
	if err != nil {
		return nil, "", err
	}
	var read struct {
		lab.Result
		Parameters json.RawMessage `json:"parameters"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, "", err
	}
	read.Result.Parameters = read.Parameters
	sum := sha256.Sum256(text)
	return &read.Result, hex.EncodeToString(sum[:]), nil
}

// writeWhole writes a file that is there as a whole or not at all.
func writeWhole(path string, text []byte) error {
	// Nothing is synced: a file that a power cut damages has the wrong digest, and is made again.
	next := path + ".next"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// placed keeps the cells of pools in a directory, one file each: a line that says what it is, then two bytes per node. An empty directory name
// keeps nothing.
type placed struct {
	dir string
	key string
}

// newPlaced makes the directory. The key is of the program, the site, the number of cells and the seed.
func newPlaced(site *lab.Site, o *whatIfFlags) (*placed, error) {
	p := &placed{dir: o.keep}
	if p.dir == "" {
		return p, nil
	}
	program, err := programSum()
	if err != nil {
		return nil, fmt.Errorf("the digest of this program: %w", err)
	}
	// How many cells there are in all decides how many this pool has, and what they are called.
	h := sha256.New()
	fmt.Fprintln(h, program, o.cells, o.seed)
	describeSite(h, site)
	p.key = hex.EncodeToString(h.Sum(nil))
	return p, os.MkdirAll(p.dir, 0o755)
}

// describeSite writes everything of a site that placement looks at.
func describeSite(h hash.Hash, site *lab.Site) {
	for _, s := range site.View.Servers() {
		fmt.Fprintf(h, "%q %q %q %q %q %d %d\n", s.ID, s.Brick, s.Rack, s.Power, s.Color, s.Capacity, s.Load)
	}
}

// file is where the cells of a pool are kept. Names of bricks and colors are escaped by the digest.
func (p *placed) file(pool *lab.PoolFleet) string {
	sum := sha256.Sum256([]byte(pool.Pool.String()))
	return filepath.Join(p.dir, "pool-"+hex.EncodeToString(sum[:8])+".cells")
}

// head is the first line of a file: what it holds, and the digest of what follows.
func (p *placed) head(pool *lab.PoolFleet, body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("physalia lab what-if: cells of %s, key %s, digest %s\n", pool.Pool, p.key, hex.EncodeToString(sum[:]))
}

// read fills the fleet of a pool with n cells, and reports whether it could.
func (p *placed) read(pool *lab.PoolFleet, n int) bool {
	if p.dir == "" {
		return false
	}
	text, err := os.ReadFile(p.file(pool))
	if err != nil {
		return false // nothing is kept yet, or it cannot be read: it is placed again, and writing it tells why
	}
	// The first line must be the one that would be written today: key and digest are in it, so nothing else has to be compared.
	end := bytes.IndexByte(text, '\n') + 1
	body := text[end:]
	if len(body) != 2*n*pool.Fleet.Size || string(text[:end]) != p.head(pool, body) {
		return false
	}
	jury := make([]uint16, pool.Fleet.Size)
	for ; len(body) > 0; body = body[2*len(jury):] {
		for i := range jury {
			jury[i] = binary.LittleEndian.Uint16(body[2*i:])
		}
		pool.Fleet.Add(jury)
	}
	return true
}

// write keeps the cells of a pool.
func (p *placed) write(pool *lab.PoolFleet) error {
	if p.dir == "" {
		return nil
	}
	body := make([]byte, 0, 2*pool.Fleet.Len()*pool.Fleet.Size)
	for c := range pool.Fleet.Len() {
		for _, m := range pool.Fleet.Jury(c) {
			body = binary.LittleEndian.AppendUint16(body, m)
		}
	}
	var b strings.Builder
	b.WriteString(p.head(pool, body))
	b.Write(body)
	return writeWhole(p.file(pool), []byte(b.String()))
}
