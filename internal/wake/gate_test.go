package wake_test

import (
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/internal/wake"
)

// All who wait go on when the gate opens, also those who waited while it was shut again.
func TestGate(t *testing.T) {
	t.Parallel()
	var g wake.Gate
	g.Shut()
	if g.IsOpen() {
		t.Fatal("a new gate is open")
	}
	var all sync.WaitGroup
	for range 8 {
		opened := g.Opened()
		all.Go(func() { <-opened })
	}
	g.Shut()
	g.Open()
	g.Open()
	all.Wait()
	if !g.IsOpen() {
		t.Error("it is shut after it was opened")
	}
	g.Shut()
	if g.IsOpen() {
		t.Error("it is open after it was shut")
	}
	g.Open()
	<-g.Opened()
}
