// Package cellset holds sets of a channel's cells, by the index of the cell in the channel. A word holds 64 cells, so
// that a walk over few members of a large channel costs little.
//
// It is pure. A Set belongs to the goroutine that holds it.
package cellset

import (
	"iter"
	"math/bits"
)

// Set is a set of indexes below the number that Many was passed. The caller passes no other index.
type Set []uint64

const perWord = 64

// Many returns as many empty sets for n cells, side by side.
func Many(sets, n int) []Set {
	words := (n + perWord - 1) / perWord
	all, side := make([]Set, sets), make(Set, sets*words)
	for i := range all {
		all[i] = side[i*words : (i+1)*words : (i+1)*words]
	}
	return all
}

// Has reports whether i is in the set.
func (s Set) Has(i int) bool { return s[i/perWord]>>(i%perWord)&1 != 0 }

// Add adds i.
func (s Set) Add(i int) { s[i/perWord] |= 1 << (i % perWord) }

// Remove removes i.
func (s Set) Remove(i int) { s[i/perWord] &^= 1 << (i % perWord) }

// Set adds i, or removes it.
func (s Set) Set(i int, in bool) {
	if in {
		s.Add(i)
	} else {
		s.Remove(i)
	}
}

// All returns the indexes in the set, in order. The loop's body may add and remove the index that it was passed.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for w, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(w*perWord + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// Missing returns the indexes below n that are not in the set, as All does. n is what Many was passed.
func (s Set) Missing(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for w, word := range s {
			for word = ^word; word != 0; word &= word - 1 {
				i := w*perWord + bits.TrailingZeros64(word)
				if i >= n || !yield(i) {
					return
				}
			}
		}
	}
}
