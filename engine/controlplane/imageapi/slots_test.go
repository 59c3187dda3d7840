package imageapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// As many pulls as there are slots send at once, in the order in which they asked.
func TestSlotsAreInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := make(sendSlots, 2)
		var order []int
		sending, most := 0, 0
		next := make(chan struct{})
		for i := range 9 {
			go func() {
				release, err := all.acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				sending++
				most = max(most, sending)
				<-next
				sending--
				release()
				release() // does nothing
			}()
			synctest.Wait()
		}
		for range 9 {
			next <- struct{}{}
			synctest.Wait()
		}
		if !slices.IsSorted(order) || len(order) != 9 || most != 2 {
			t.Errorf("slots in the order %v, at most %d at once", order, most)
		}
		if len(all) != 0 {
			t.Errorf("%d slots are held", len(all))
		}
	})
}

// Clients that take nothing hold up no other pull: each of them has a slot once, for a while.
func TestSlowClientsPassTheirSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := make(sendSlots, 1)
		stuck := make(chan struct{})
		for range 100 {
			go func() {
				release, err := all.acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				<-stuck
				release()
			}()
		}
		synctest.Wait()
		release, err := all.acquire(t.Context()) // after all of them
		if err != nil {
			t.Fatal(err)
		}
		release()
		close(stuck)
		synctest.Wait()
		if len(all) != 0 {
			t.Errorf("%d slots are held", len(all))
		}
	})
}

// A pull that ends while it waits leaves the slot to others.
func TestPullThatEndsNeedsNoSlot(t *testing.T) {
	t.Parallel()
	all := make(sendSlots, 1)
	all <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.acquire(ctx); err == nil {
		t.Error("a pull that ended has a slot")
	}
	all.pass()
	if release, err := all.acquire(t.Context()); err != nil {
		t.Error(err)
	} else {
		release()
	}
}

// What is sent is what was read, in parts of any size and to its end or its error; each part has held a slot.
func TestContentIsSentInParts(t *testing.T) {
	t.Parallel()
	a := New(Options{})
	content := bytes.Repeat([]byte("0123456789"), 50_000)
	broken := errors.New("the registry is away")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		from io.Reader
		n    int
		err  error
	}{
		"whole":        {bytes.NewReader(content), len(content), nil},
		"end and data": {iotest.DataErrReader(bytes.NewReader(content)), len(content), nil},
		"by halves":    {iotest.HalfReader(bytes.NewReader(content)), len(content), nil},
		"nothing":      {bytes.NewReader(nil), 0, nil},
		"breaks": {io.MultiReader(bytes.NewReader(content[:200_000]), iotest.ErrReader(broken)), 200_000,
			broken},
	} {
		to := httptest.NewRecorder()
		n, err := (&slotWriter{to, &pacedContent{ctx: t.Context(), api: a}}).ReadFrom(c.from)
		if int(n) != c.n || !bytes.Equal(to.Body.Bytes(), content[:c.n]) || !errors.Is(err, c.err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	for range cap(a.slots) {
		a.slots <- struct{}{}
	}
	paced := &pacedContent{ctx: ended, api: a}
	n, err := (&slotWriter{httptest.NewRecorder(), paced}).ReadFrom(bytes.NewReader(content))
	if n != 0 || err == nil || paced.err == nil {
		t.Errorf("%d bytes were sent to a cell that was shut out: %v", n, err)
	}
}
