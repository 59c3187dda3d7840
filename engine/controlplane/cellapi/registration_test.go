package cellapi

import (
	"fmt"
	"testing"
)

// Unauthenticated keys use up their common limit, but not the limit of a known cell that presents its next key.
func TestUnauthenticatedKeysLeaveCellsTheirLimit(t *testing.T) {
	t.Parallel()
	k := newRegistrationLimiter()
	turned := 0
	for n := range 3 * maxTrackedKeys {
		if _, ok := k.allow(fmt.Sprint(n)); !ok {
			turned++
		}
	}
	if turned == 0 || len(k.byKey) > maxTrackedKeys {
		t.Errorf("%d were turned away, %d are counted", turned, len(k.byKey))
	}
	if after, ok := k.allowKey("a cell's"); !ok {
		t.Errorf("a cell waits %s for its next key", after)
	}
	for range 20 {
		k.allowKey("a cell's")
	}
	if _, ok := k.allowKey("a cell's"); ok {
		t.Error("one key asks without bound")
	}
}
