package lab

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// stream is a source of dice of its own for each name, so that one experiment draws the same whatever else runs.
func stream(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name)) // a hash takes everything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// z95 is how many standard deviations on either side hold 95 % of a normal distribution.
const z95 = 1.959963984540054

// Point is a measured value with its interval; X is where it stands on the axis.
type Point struct {
	X  float64 `json:"x"`
	Y  float64 `json:"y"`
	Lo float64 `json:"lo"` // of the interval; equal to Y where the value is exact
	Hi float64 `json:"hi"`
}

// exact is a point without uncertainty.
func exact(x, y float64) Point { return Point{x, y, y, y} }

// wilson is the share of hits among n independent trials, with Wilson's interval of z standard deviations.
func wilson(x float64, hits, n int, z float64) Point {
	if n == 0 {
		return Point{x, 0, 0, 1}
	}
	p, m := float64(hits)/float64(n), float64(n)
	// Unlike the usual interval it does not shrink to nothing when there were no hits, or nothing but hits.
	center := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Point{x, p, max(0, min(p, center-half)), min(1, max(p, center+half))}
}

// Cells under one failure fail together. Taking each for a trial of its own would make intervals far too narrow, and every figure look
// more certain than it is.
//
// ratio estimates a share from trials in each of which several things are counted that fail together.
type ratio struct {
	hits, of []float64
}

// add takes in one trial.
func (r *ratio) add(hits, of float64) {
	r.hits, r.of = append(r.hits, hits), append(r.of, of)
}

// sums are all hits and all chances.
func (r *ratio) sums() (hits, of float64) {
	for i := range r.hits {
		hits, of = hits+r.hits[i], of+r.of[i]
	}
	return hits, of
}

// point is the share with its interval: the usual one of a ratio of sums (linearised), by trials. Where no trial has a hit, or
// none a miss, it ends at Wilson's bound for as many trials.
func (r *ratio) point(x float64) Point {
	hits, of := r.sums()
	n := float64(len(r.hits))
	if of == 0 || n < 2 {
		return Point{x, 0, 0, 1}
	}
	share := hits / of
	if hits == 0 || hits == of {
		return wilson(x, int(share)*len(r.hits), len(r.hits), z95)
	}
	square := 0.0
	for i := range r.hits {
		d := r.hits[i] - share*r.of[i]
		square += d * d
	}
	half := z95 * math.Sqrt(square*n/(n-1)) / of
	return Point{x, share, max(0, share-half), min(1, share+half)}
}

// mean is the average of independent values with its normal interval; nothing here is negative.
func mean(x float64, values []float64) Point {
	n := float64(len(values))
	if n == 0 {
		return Point{X: x}
	}
	sum, square := 0.0, 0.0
	for _, v := range values {
		sum += v
	}
	average := sum / n
	for _, v := range values {
		square += (v - average) * (v - average)
	}
	half := 0.0
	if n > 1 {
		half = z95 * math.Sqrt(square/(n-1)/n)
	}
	return Point{x, average, max(0, average-half), average + half}
}

// binomial is the chance of exactly k hits in n trials.
func binomial(n, k int, p float64) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}

// Lost is the chance that a jury of n has no majority when each member fails by itself with probability p.
func Lost(n int, p float64) float64 {
	sum := 0.0
	for k := n - majority(n) + 1; k <= n; k++ {
		sum += binomial(n, k, p)
	}
	return sum
}

// It goes through the domains one by one and keeps how likely each number of failed members is; given that a domain stands, its members fail by
// themselves, so their number is binomial.
//
// LostTogether is the chance that a jury has no majority when each of the domains it stands in fails as a whole with
// probability whole, and each member by itself with probability single; counts are the members per domain.
func LostTogether(counts []int, whole, single float64) float64 {
	failed := []float64{1} // by number of failed members
	n := 0
	for _, c := range counts {
		n += c
		next := make([]float64, len(failed)+c)
		for have, p := range failed {
			for k := range c + 1 {
				q := (1 - whole) * binomial(c, k, single)
				if k == c {
					q += whole
				}
				next[have+k] += p * q
			}
		}
		failed = next
	}
	sum := 0.0
	for k := n - majority(n) + 1; k <= n; k++ {
		sum += failed[k]
	}
	return sum
}

// deviations is how many standard deviations a count of hits is off what a probability leads to expect. Where hits, or misses, are
// rare, the normal approximation says nothing, and the tail of Poisson's distribution is translated.
func deviations(hits, n int, p float64) float64 {
	expected := float64(n) * p
	spread := math.Sqrt(expected * (1 - p))
	if expected < 30 || float64(n)-expected < 30 { // the tail of the Poisson distribution
		if p > 0.5 {
			hits, expected = n-hits, float64(n)*(1-p)
		}
		return math.Abs(poissonDeviations(hits, expected))
	}
	return math.Abs(float64(hits)-expected) / spread
}

// poissonDeviations translates the chance of seeing as many as hits, or as few, into standard deviations of a normal
// distribution with the same tail.
func poissonDeviations(hits int, expected float64) float64 {
	below, term := 0.0, math.Exp(-expected) // P(fewer than hits)
	for k := range hits {
		below += term
		term *= expected / float64(k+1)
	}
	above, upTo := 1-below, below+term
	tail := min(above, upTo)
	return math.Sqrt2 * math.Erfcinv(2*min(max(tail, 1e-15), 0.5))
}
