package lab

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"physalia/cell"
	"physalia/internal/topology"
)

// A topology file describes a data centre in TOML. docs/laboratory.md has an example; the keys are those of the types below.
//
// Whole racks of equal servers are written in one line (servers = 12), single ones as [[brick.rack.server]]. Tables are written as
// tables of their own, [[brick]], [[brick.rack]], [[brick.rack.server]] and [[device]], so that an error can name a line.

// Bounds of a topology file.
const (
	FileBytesMax   = 16 << 20
	devicesMax     = 1 << 14
	linksMax       = 64
	smallestPool   = 7 // servers of one color in a brick, below which no cell of seven fits
	smallestRacks  = 3
	serverCapacity = 20_000 // nodes, where the file does not say
)

type fileSite struct {
	Name     string       `toml:"name"`
	Capacity uint64       `toml:"capacity"` // of a server, in nodes
	Colors   []string     `toml:"colors"`   // dealt over the servers of a rack in turn
	Bricks   []fileBrick  `toml:"brick"`
	Devices  []fileDevice `toml:"device"`
}

type fileBrick struct {
	Name  string     `toml:"name"`
	Racks []fileRack `toml:"rack"`
}

type fileRack struct {
	Name    string       `toml:"name"`
	Power   string       `toml:"power"`   // of its servers, if they do not say otherwise
	Uplinks []string     `toml:"uplinks"` // devices it hangs on
	Count   int          `toml:"servers"` // equal servers
	Servers []fileServer `toml:"server"`
}

type fileServer struct {
	Name     string `toml:"name"`
	Power    string `toml:"power"`
	Color    string `toml:"color"`
	Capacity uint64 `toml:"capacity"`
}

type fileDevice struct {
	Name  string   `toml:"name"`
	Tier  string   `toml:"tier"`
	Links []string `toml:"links"` // further devices it is connected to
}

// It reads in the order of the file, since lines are known by counting tables: the third [[brick.rack]] line is where the third rack begins.
//
// reader turns a file into a site and knows where each table begins.
type reader struct {
	name    string
	file    fileSite
	lines   map[string][]int // by kind of table, in the order of the file: its line
	next    map[string]int   // tables of that kind that were read
	servers []server
	devices []Device
	byName  map[string]int32 // devices
	uplinks map[string][]int32
	seen    map[string]int // names that must not repeat, with the line
}

// header finds the tables of a file.
var header = regexp.MustCompile(`^\s*\[\[\s*([a-z]+(?:\s*\.\s*[a-z]+)*)\s*\]\]`)

// ParseTopology reads a topology file; name is what errors call it. Errors are *cell.Error of kind Invalid and begin with name:line.
func ParseTopology(name string, text []byte) (*Site, error) {
	r := &reader{name: name, lines: map[string][]int{}, next: map[string]int{}, byName: map[string]int32{}, uplinks: map[string][]int32{}, seen: map[string]int{}}
	if len(text) > FileBytesMax {
		return nil, invalid("topology", "is this the right file?", "%s is larger than %d bytes", name, FileBytesMax)
	}
	if err := r.decode(text); err != nil {
		return nil, err
	}
	for i, line := range strings.Split(string(text), "\n") {
		if m := header.FindStringSubmatch(line); m != nil {
			kind := strings.Join(strings.Fields(strings.ReplaceAll(m[1], ".", " ")), ".")
			r.lines[kind] = append(r.lines[kind], i+1)
		}
	}
	if err := r.counted(); err != nil {
		return nil, err
	}
	if err := r.readDevices(); err != nil {
		return nil, err
	}
	if len(r.file.Bricks) == 0 {
		return nil, r.wrong(1, "describe one with [[brick]]", "there is no brick")
	}
	for i := range r.file.Bricks {
		if err := r.readBrick(&r.file.Bricks[i]); err != nil {
			return nil, err
		}
	}
	site, err := newSite(r.file.Name, r.servers, r.devices, r.uplinks)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return site, nil
}

// wrong is an error about a line.
func (r *reader) wrong(line int, hint, format string, args ...any) error {
	return &cell.Error{Op: "lab.topology", Kind: cell.Invalid, Detail: fmt.Sprintf("%s:%d: %s", r.name, line, fmt.Sprintf(format, args...)), Hint: hint}
}

// decode reads the text strictly; what the library says of a place is kept.
func (r *reader) decode(text []byte) error {
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := d.Decode(&r.file)
	var unknown *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return r.wrong(line, "see docs/laboratory.md for the keys of a topology file", "unknown key %q", strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &syntax):
		line, _ := syntax.Position()
		return r.wrong(line, "correct the file", "%v", syntax)
	case err != nil:
		return r.wrong(1, "correct the file", "%v", err)
	}
	return nil
}

// counted makes sure that every table has a line of its own.
func (r *reader) counted() error {
	racks, servers := 0, 0
	for i := range r.file.Bricks {
		racks += len(r.file.Bricks[i].Racks)
		for k := range r.file.Bricks[i].Racks {
			servers += len(r.file.Bricks[i].Racks[k].Servers)
		}
	}
	for kind, n := range map[string]int{"brick": len(r.file.Bricks), "brick.rack": racks, "brick.rack.server": servers, "device": len(r.file.Devices)} {
		if len(r.lines[kind]) != n {
			return r.wrong(1, "write [["+kind+"]] on a line of its own", "%d tables %s, but %d lines [[%s]]", n, kind, len(r.lines[kind]), kind)
		}
	}
	return nil
}

// line is where the next table of a kind begins.
func (r *reader) line(kind string) int {
	r.next[kind]++
	return r.lines[kind][r.next[kind]-1]
}

// once refuses a name that was used already, is empty or not printable.
func (r *reader) once(line int, kind, name string) error {
	if name == "" {
		return r.wrong(line, "name = \"...\"", "a %s has no name", kind)
	}
	if first, ok := r.seen[kind+" "+name]; ok {
		return r.wrong(line, "give it another name", "%s %q is described twice, first on line %d", kind, name, first)
	}
	r.seen[kind+" "+name] = line
	return nil
}

// readDevices reads the network above the racks.
func (r *reader) readDevices() error {
	if len(r.file.Devices) > devicesMax {
		return r.wrong(r.lines["device"][devicesMax], fmt.Sprintf("describe at most %d", devicesMax), "%d devices", len(r.file.Devices))
	}
	for i := range r.file.Devices {
		d, line := &r.file.Devices[i], r.line("device")
		if err := r.once(line, "device", d.Name); err != nil {
			return err
		}
		r.byName[d.Name] = int32(i)
		r.devices = append(r.devices, Device{Name: d.Name, Tier: d.Tier})
	}
	for i := range r.file.Devices {
		links, err := r.named(r.lines["device"][i], r.file.Devices[i].Links)
		if err != nil {
			return err
		}
		r.devices[i].links = links
	}
	return nil
}

// named finds devices by name.
func (r *reader) named(line int, names []string) (out []int32, err error) {
	if len(names) > linksMax {
		return nil, r.wrong(line, fmt.Sprintf("name at most %d", linksMax), "%d links", len(names))
	}
	for _, n := range names {
		at, ok := r.byName[n]
		if !ok {
			return nil, r.wrong(line, "describe it with [[device]]", "there is no device %q", n)
		}
		out = append(out, at)
	}
	return out, nil
}

// readBrick reads a brick, and refuses one that cannot hold a cell of seven.
func (r *reader) readBrick(b *fileBrick) error {
	line := r.line("brick")
	if err := r.once(line, "brick", b.Name); err != nil {
		return err
	}
	if len(b.Racks) < smallestRacks {
		return r.wrong(line, "describe them with [[brick.rack]]", "brick %q has %d racks, it needs %d: a rack must not hold a majority of a cell", b.Name, len(b.Racks), smallestRacks)
	}
	pools, first := map[topology.Color]int{}, len(r.servers)
	for i := range b.Racks {
		if err := r.readRack(b, &b.Racks[i]); err != nil {
			return err
		}
	}
	for _, s := range r.servers[first:] {
		pools[s.Color]++
	}
	for _, s := range r.servers[first:] { // in the order of the file
		if n := pools[s.Color]; n < smallestPool {
			return r.wrong(line, "add servers, or use fewer colors", "brick %q color %q has %d servers, a cell needs %d", b.Name, s.Color, n, smallestPool)
		}
	}
	return nil
}

// readRack reads a rack and its servers.
func (r *reader) readRack(b *fileBrick, k *fileRack) error {
	line := r.line("brick.rack")
	if err := r.once(line, "rack", b.Name+"/"+k.Name); err != nil {
		return err
	}
	uplinks, err := r.named(line, k.Uplinks)
	switch {
	case k.Name == "":
		return r.wrong(line, "name = \"...\"", "a rack of brick %q has no name", b.Name)
	case err != nil:
		return err
	case len(uplinks) == 0 && len(r.devices) > 0:
		return r.wrong(line, "uplinks = [\"...\"]", "rack %q has no uplinks, but there are devices", k.Name)
	case k.Count < 0 || k.Count+len(r.servers) > topology.ServersMax:
		return r.wrong(line, fmt.Sprintf("at most %d in the site", topology.ServersMax), "rack %q has %d servers", k.Name, k.Count)
	case k.Count+len(k.Servers) == 0:
		return r.wrong(line, "servers = 12, or [[brick.rack.server]]", "rack %q has no servers", k.Name)
	}
	r.uplinks[b.Name+"/"+k.Name] = uplinks
	for j := range k.Count {
		f := fileServer{Name: fmt.Sprintf("%s-%s-s%02d", b.Name, k.Name, j+1), Color: "red"}
		if n := len(r.file.Colors); n > 0 {
			f.Color = r.file.Colors[j%n]
		}
		if err := r.readServer(line, b, k, f); err != nil {
			return err
		}
	}
	for _, f := range k.Servers {
		if err := r.readServer(r.line("brick.rack.server"), b, k, f); err != nil {
			return err
		}
	}
	return nil
}

// readServer takes one server in; what it does not say is taken from its rack and the file.
func (r *reader) readServer(line int, b *fileBrick, k *fileRack, f fileServer) error {
	if err := r.once(line, "server", f.Name); err != nil {
		return err
	}
	if f.Power == "" {
		f.Power = k.Power
	}
	if f.Capacity == 0 {
		f.Capacity = r.file.Capacity
	}
	if f.Capacity == 0 {
		f.Capacity = serverCapacity
	}
	s := server{topology.Server{ID: cell.ServerID(f.Name), Name: f.Name, Brick: topology.Brick(b.Name), Rack: topology.Rack(k.Name),
		Power: topology.PowerDomain(f.Power), Color: topology.Color(f.Color), Capacity: f.Capacity}}
	if err := s.Check(); err != nil {
		var e *cell.Error
		if errors.As(err, &e) {
			return r.wrong(line, e.Hint, "%s", e.Detail)
		}
		return err
	}
	r.servers = append(r.servers, s)
	return nil
}
