package cellset_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan/cellset"
)

// A set has what a map of the same indexes has, whatever its size, and may be changed where a walk is.
func TestSet(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 300} {
		random := rand.New(rand.NewPCG(uint64(n), 1))
		sets := cellset.Many(3, n)
		s, want := sets[1], map[int]bool{}
		for range 2 * n {
			i, in := random.IntN(n), random.IntN(3) > 0
			s.Set(i, in)
			want[i] = in
		}
		var in, out []int
		for i := range n {
			if s.Has(i) != want[i] {
				t.Errorf("%d of %d: has %t, want %t", i, n, s.Has(i), want[i])
			}
			if want[i] {
				in = append(in, i)
			} else {
				out = append(out, i)
			}
		}
		if got := slices.Collect(s.All()); !slices.Equal(got, in) {
			t.Errorf("of %d: %v, want %v", n, got, in)
		}
		if got := slices.Collect(s.Missing(n)); !slices.Equal(got, out) {
			t.Errorf("missing of %d: %v, want %v", n, got, out)
		}
		for i := range s.Missing(n) {
			s.Add(i)
		}
		for i := range s.All() {
			s.Remove(i)
		}
		for j, beside := range sets {
			if left := slices.Collect(beside.All()); len(left) > 0 {
				t.Errorf("of %d: set %d has %v", n, j, left)
			}
		}
	}
}
