package route

// Turns bounds how many writes of one cell a client has under way at a time. A cell remembers its newest cell.WindowMax
// transactions (rule 14): a write that more others overtake than that is refused as Expired, and has to start anew. So the bound
// falls by half when that happens, whoever the others were, and rises by one after as many writes as it allows that went well
// (additive increase, multiplicative decrease). The zero Turns is ready to use. One owner at a time.
type Turns struct {
	out   int // under way
	less  int // TurnsMax - less is the bound
	well  int // writes that went well since the bound was changed
	quiet int // writes to end before the bound falls again: they were under way when it fell
}

// Bounds of the bound. TurnsMax is what four clients of one cell can have under way together before they outrun its memory.
const (
	TurnsMax = 64
	TurnsMin = 4
)

// Bound is how many writes may be under way now.
func (t *Turns) Bound() int { return TurnsMax - t.less }

// Take begins a write, and reports false when its turn has not come.
func (t *Turns) Take() bool {
	if t.out >= t.Bound() {
		return false
	}
	t.out++
	return true
}

// Done ends a write that was begun; expired says that the cell forgot too much meanwhile.
func (t *Turns) Done(expired bool) {
	t.out--
	crowd := t.quiet > 0
	if crowd {
		t.quiet--
	}
	switch {
	case expired && !crowd:
		t.less, t.well, t.quiet = TurnsMax-max(TurnsMin, t.Bound()/2), 0, t.out
	case !expired && t.less > 0:
		if t.well++; t.well >= t.Bound() {
			t.less--
			t.well = 0
		}
	}
}
