// Package rapidseed lets the environment choose what random tests draw. With PHYSALIA_SEED set, a test binary that imports it
// draws the same schedules in every run, so that a gate gives one answer for one tree; without it they are new in every run,
// which is how mistakes are found. The flag -rapid.seed wins over both. Test packages that draw import it for its effect.
package rapidseed

import (
	"flag"
	"fmt"
	"os"

	_ "pgregory.net/rapid" // declares the flag
)

func init() {
	if seed := os.Getenv("PHYSALIA_SEED"); seed != "" {
		if err := flag.Set("rapid.seed", seed); err != nil {
			panic(fmt.Sprintf("PHYSALIA_SEED=%q: %v", seed, err))
		}
	}
}
