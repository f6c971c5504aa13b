package topology

import "fmt"

// Distance tells how much of the data centre two places do not share; less is closer.
type Distance uint8

// The distances. SamePower is closer than SameBrick because what shares the client's power feed fails with the client,
// not instead of it.
const (
	SameServer Distance = 0
	SameRack   Distance = 1 // same brick and rack
	SamePower  Distance = 2 // same brick and power domain, another rack
	SameBrick  Distance = 3
	OtherBrick Distance = 4 // or unknown
)

var distanceNames = [...]string{"same server", "same rack", "same power domain", "same brick", "other brick"}

// String names the distance for people.
func (d Distance) String() string {
	if int(d) < len(distanceNames) {
		return distanceNames[d]
	}
	return fmt.Sprintf("distance %d", uint8(d))
}

// Distance returns the distance between two places. It is symmetric; what is unknown on either side counts as not
// shared.
func (l Location) Distance(m Location) Distance {
	switch {
	case l.Server != "" && l.Server == m.Server:
		return SameServer
	case l.Brick == "" || l.Brick != m.Brick:
		return OtherBrick
	case l.Rack != "" && l.Rack == m.Rack:
		return SameRack
	case l.Power != "" && l.Power == m.Power:
		return SamePower
	}
	return SameBrick
}

// IsZero reports whether nothing is known of the place.
func (l Location) IsZero() bool { return l == Location{} }
