package lab

// Results are data only, and marshal to the JSON that is published: fields are added, never renamed, and every number of the figures is in it
// with its interval, so that whoever doubts a picture can draw another one.
//
// Result is the outcome of one experiment: figures, and what they say about the paper.
type Result struct {
	Number     int       `json:"experiment"`
	Name       string    `json:"name"` // one word
	Title      string    `json:"title"`
	Question   string    `json:"question"`
	Method     []string  `json:"method"`     // what was done, for people
	Parameters any       `json:"parameters"` // all numbers that the outcome depends on, beside the seed
	Figures    []Figure  `json:"figures"`
	Findings   []Finding `json:"findings"`
}

// Figure is a picture as data.
type Figure struct {
	Name   string   `json:"name"` // of the files, for example "1-independent"
	Title  string   `json:"title"`
	X      Axis     `json:"x"`
	Y      Axis     `json:"y"`
	Series []Series `json:"series"`
	Note   string   `json:"note"` // how to read it
}

// Axis says what is measured along a side of a figure.
type Axis struct {
	Label string  `json:"label"` // with the unit
	Log   bool    `json:"log,omitempty"`
	Min   float64 `json:"min,omitempty"` // where a logarithmic axis begins: what is smaller lies on it
	Max   float64 `json:"max,omitempty"` // zero: where the data end
}

// Series is one line of a figure.
type Series struct {
	Name   string  `json:"name"`
	Style  string  `json:"style,omitempty"` // empty: measured, a line with marks and intervals; StyleExact, StylePaper, StyleSteps
	Points []Point `json:"points"`
}

// The styles of a series that is not plainly a measured line.
const (
	StyleExact = "exact" // computed, not measured: a thin line without marks
	StylePaper = "paper" // a figure of the paper's: a dashed line
	StyleSteps = "steps" // measured, constant between points
	StyleMarks = "marks" // measured, marks and intervals without a line
)

// Finding holds a claim of the paper against what was measured.
type Finding struct {
	Paper   string  `json:"paper"`   // the claim, with its place
	Ours    string  `json:"ours"`    // what was measured, with intervals
	Verdict Verdict `json:"verdict"` // computed from the numbers in Ours
}

// Verdict is what a measurement says about a claim.
type Verdict string

// The verdicts. Beyond is for what the paper does not say.
const (
	Confirms    Verdict = "confirms"
	Contradicts Verdict = "contradicts"
	Beyond      Verdict = "beyond the paper"
)

// verdict is Confirms if a condition holds.
func verdict(holds bool) Verdict {
	if holds {
		return Confirms
	}
	return Contradicts
}

// Experiment is one of the eight.
type Experiment struct {
	Number int
	Name   string
	Run    func(Run) (Result, error)
}

// Effort changes the numbers of trials, volumes and cells, and so is part of the parameters that a result lists; Watch changes nothing.
//
// Run is what an experiment depends on.
type Run struct {
	Seed   uint64
	Effort float64 // multiplies trials: 1 is what the report uses, tests take less
	Watch  Watch   // told of progress, may stop it; not part of the outcome
}

// trials scales a number of trials, of which at least least are needed.
func (r Run) trials(n, least int) int { return max(least, int(float64(n)*r.Effort)) }

// Experiments lists all, in the order of the report.
func Experiments() []Experiment {
	return []Experiment{
		{1, "sizes", Sizes}, {2, "blast", Blast}, {3, "network", Network}, {4, "load", Load},
		{5, "repair", Repair}, {6, "follow", Follow}, {7, "poison", Poison}, {8, "rollout", Rollout},
	}
}
