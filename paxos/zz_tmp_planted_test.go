//go:build planted

package paxos
import ("testing";"strings";"fmt")
func TestZZ(t *testing.T) {
	for _, bug := range []string{"accept-without-promising", "certify-any-ballot"} {
		undo := Plant(bug)
		n := map[string]int{}
		first := map[string]string{}
		for seed := range uint64(2000) {
			s := drawSchedule(seeded(seed), 400)
			if err := s.run(nil); err != nil {
				k := strings.Join(strings.Fields(err.Error())[:3]," ")
				if n[k]==0 { first[k] = fmt.Sprint(seed, err) }
				n[k]++
			}
		}
		undo()
		fmt.Println(bug, n)
		for k, v := range first { fmt.Println("   ", k, v) }
	}
}
