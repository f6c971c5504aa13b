package placement

import (
	"cmp"
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// substitutesMax is how many servers, the emptiest first, are compared by what they share with other cells.
const substitutesMax = 16

// substitute is a server that may take a place.
type substitute struct {
	id    cell.ServerID
	fill  uint64
	close int // cells that would share too much with the new jury
}

// Substitute chooses the server that takes the place of one member of an existing jury: in the same pool, alive, with room,
// and such that no rack and no power domain holds too many of the new jury, the dead members counted. Of the emptiest it takes
// the one that makes the jury share too much with the fewest cells. It is deterministic.
//
// The error is a *cell.Error of kind NoRoom that counts what ruled the servers out.
func Substitute(in Input, jury []cell.ServerID, leaves cell.ServerID) (cell.ServerID, error) {
	rest := slices.DeleteFunc(slices.Clone(jury), func(id cell.ServerID) bool { return id == leaves })
	key := Jury(jury, in.View)
	var found []substitute
	live, room := 0, 0
	for i := range in.View.Servers() {
		s := &in.View.Servers()[i]
		if s.Pool() != key.Pool() || in.Down[s.ID] || slices.Contains(jury, s.ID) {
			continue
		}
		live++
		if load := max(s.Load, uint64(in.Book.Nodes(s.ID))); load < s.Capacity {
			room++
			found = append(found, substitute{id: s.ID, fill: fill(load, s.Capacity)})
		}
	}
	slices.SortStableFunc(found, func(a, b substitute) int { return cmp.Compare(a.fill, b.fill) }) // the view orders them
	var fit []substitute
	for _, s := range found {
		p := Placement{Brick: key.Brick, Color: key.Color, Members: append(slices.Clone(rest), s.id)}
		if len(fit) < substitutesMax && !crowds(p, in.View) {
			s.close = in.Book.Sharing(p.Members)
			fit = append(fit, s)
		}
	}
	if len(fit) == 0 {
		return "", &cell.Error{Op: "placement.substitute", Kind: cell.NoRoom,
			Detail: fmt.Sprintf("%s has %d live servers beside the jury, %d of them with room; none fits the racks and power domains of the other members", key.Pool(), live, room),
			Hint:   "add servers, or name one with --add"}
	}
	return slices.MinFunc(fit, func(a, b substitute) int { return cmp.Compare(a.close, b.close) }).id, nil
}

// crowds reports whether a jury puts too much into one rack or power domain.
func crowds(p Placement, v *topology.View) bool {
	for _, problem := range Check(p, len(p.Members), v) {
		if problem.Rule == RuleRack || problem.Rule == RulePower {
			return true
		}
	}
	return false
}
