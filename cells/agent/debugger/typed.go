package debugger

import (
	"bytes"
	"io"
	"sync"
)

const (
	interruptKey = 3        // ^C, as a terminal in raw mode sends it
	emptyLineKey = 21       // ^U, which the prompt's editor obeys
	maxTyped     = 32 << 10 // bytes that wait
)

// typedInput is what a person types at a terminal, to prompts and beside commands that read nothing. While a command
// runs, ^C interrupts it, and what else is typed waits for the next prompt; what is too much is dropped in whole lines,
// for ^C may come after it. At a prompt, ^C empties the line: a permission serves for one session, which should not end
// by a key that was pressed too often.
type typedInput struct {
	mu        sync.Mutex
	changed   *sync.Cond // of the fields below
	waiting   []byte
	cut       bool   // something was dropped, and so is what comes up to the end of its line
	lost      bool   // something was dropped, and the person was not told
	err       error  // of the person's end; nil: there is more to come
	interrupt func() // nil: no command runs
}

// readTyped reads a person's input from now on, until it ends.
func readTyped(from io.Reader) *typedInput {
	t := &typedInput{}
	t.changed = sync.NewCond(&t.mu)
	go t.take(from)
	return t
}

func (t *typedInput) take(from io.Reader) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		t.mu.Lock()
		for len(t.waiting) > maxTyped && t.err == nil && t.interrupt == nil { // what is pasted waits in the connection
			t.changed.Wait()
		}
		t.keepLocked(b[:n])
		if t.err == nil {
			t.err = err
		}
		over := t.err != nil
		t.changed.Broadcast()
		t.mu.Unlock()
		if over {
			return
		}
	}
}

// keepLocked keeps what was typed, as far as it has to.
func (t *typedInput) keepLocked(typed []byte) {
	const lineEnds = "\r\n"
	if at := bytes.LastIndexByte(typed, interruptKey); at >= 0 && t.interrupt != nil {
		t.interrupt()
		t.waiting, typed = nil, typed[at+1:]
		t.cut, t.lost = false, false // it is what ^C was meant for
	}
	if t.interrupt != nil && len(t.waiting) > maxTyped {
		t.waiting = t.waiting[:bytes.LastIndexAny(t.waiting, lineEnds)+1]
		t.cut, t.lost = true, true
	}
	if t.cut {
		end := bytes.IndexAny(typed, lineEnds)
		if t.interrupt != nil || end < 0 {
			return
		}
		typed, t.cut = typed[end+1:], false
	}
	t.waiting = append(t.waiting, typed...)
}

// lostSome reports whether something was dropped since it was last called.
func (t *typedInput) lostSome() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	lost := t.lost
	t.lost = false
	return lost
}

// Read returns what was typed, once something was.
func (t *typedInput) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) == 0 && t.err == nil {
		t.changed.Wait()
	}
	if len(t.waiting) == 0 {
		return 0, t.err
	}
	n := copy(p, t.waiting)
	for i, b := range p[:n] {
		if b == interruptKey {
			p[i] = emptyLineKey
		}
	}
	t.waiting = t.waiting[n:]
	t.changed.Broadcast()
	return n, nil
}

// onInterrupt has ^C call a function, until the function that it returns was called.
func (t *typedInput) onInterrupt(do func()) (over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interrupt = do
	t.changed.Broadcast()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.interrupt = nil
	}
}

// close ends the input.
func (t *typedInput) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = io.EOF
	}
	t.changed.Broadcast()
}
