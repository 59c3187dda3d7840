package demo

import "testing"

// What kubectl's watch wrote says how few replicas served; a line that is not whole yet, and an absent number, count as
// what they are.
func TestReadServing(t *testing.T) {
	for name, tc := range map[string]struct {
		text           string
		before, fewest int
		seen           bool
	}{
		"nothing yet":           {"", -1, -1, false},
		"all served":            {"1 2\n2 2\n3 2\n", 2, 2, true},
		"not there yet":         {"1 2\n2 2\n", 2, 2, false},
		"one was missing":       {"1 2\n2 1\n3 2\n", 2, 1, true},
		"none served":           {"1 2\n2 \n3 2\n", 2, 0, true},
		"more at times":         {"1 2\n2 3\n3 2\n", 2, 2, true},
		"the line is not whole": {"1 2\n3 ", 2, 2, false},
		"nor is this number":    {"1 12\n3 1", 12, 12, false},
	} {
		t.Run(name, func(t *testing.T) {
			before, fewest, seen := readServing(tc.text, "3")
			if before != tc.before || fewest != tc.fewest || seen != tc.seen {
				t.Errorf("before %d, fewest %d, seen %t", before, fewest, seen)
			}
		})
	}
}
