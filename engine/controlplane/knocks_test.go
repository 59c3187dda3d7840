package controlplane

import (
	"fmt"
	"testing"
)

// Strangers with keys without number use up what is for all of them, and not what a cell that is known has for its next key.
func TestStrangersKeepNobodyFromANewKey(t *testing.T) {
	t.Parallel()
	k := newKnocks()
	turned := 0
	for n := range 3 * maxDoor {
		if _, ok := k.take(fmt.Sprint(n)); !ok {
			turned++
		}
	}
	if turned == 0 || len(k.each) > maxDoor {
		t.Errorf("%d were turned away, %d are counted", turned, len(k.each))
	}
	if after, ok := k.one("a cell's"); !ok {
		t.Errorf("a cell waits %s for its next key", after)
	}
	for range 20 {
		k.one("a cell's")
	}
	if _, ok := k.one("a cell's"); ok {
		t.Error("one key asks without bound")
	}
}
