package paxos

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"testing"
)

func TestHunt(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("HUNT"))
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	fails := map[string]int{}
	tot := map[string]int{}
	in := map[string]int{}
	for seed := uint64(from); seed < uint64(from+n); seed++ {
		s := drawSchedule(seeded(seed), 400)
		var w *world
		if err := s.run(func(x *world) { w = x }); err != nil {
			if len(fails) < 5 {
				fmt.Println("FOUND", seed, err)
			}
			fails[err.Error()[:10]]++
			if os.Getenv("FIRST") != "" { return }
		}
		for k, v := range w.check.seen {
			tot[k] += v
			in[k]++
		}
	}
	if os.Getenv("FIRST") != "" { return }
	var ks []string
	for k := range tot {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	for _, k := range ks {
		fmt.Printf("%-20s %8d in %5.1f%% \n", k, tot[k], float64(in[k])*100/float64(n))
	}
	t.Log(fails)
}
