package words

import "strings"

// DidYouMean returns "; did you mean X?" with the candidate that a mistyped name most likely means; empty: none is
// similar.
func DidYouMean(name string, candidates []string) string {
	if near := Nearest(name, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// Nearest returns the candidate that a mistyped name most likely means, whatever its case; empty: none is similar.
func Nearest(name string, candidates []string) (nearest string) {
	const longest = 40 // what people type
	if len(name) > longest {
		return ""
	}
	best := max(1, (len(name)+1)/3) + 1
	for _, c := range candidates {
		if len(c) > 2*longest {
			continue
		}
		if distance := editDistance(strings.ToLower(name), strings.ToLower(c)); distance < best {
			best, nearest = distance, c
		}
	}
	return nearest
}

// editDistance is the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
