package postgres

import (
	"strings"
	"sync"
)

// outputLog keeps what a server says, and tells when it says that it is ready.
type outputLog struct {
	ready chan struct{} // closed at the line that says so

	mu          sync.Mutex // guards what follows
	text        strings.Builder
	readyClosed bool
}

// maxOutput bounds what is kept, in bytes: the beginning, which says why a start failed.
const maxOutput = 64 << 10

// Write takes what the server wrote.
func (o *outputLog) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text.Len() < maxOutput {
		o.text.Write(p[:min(len(p), maxOutput-o.text.Len())])
	}
	if !o.readyClosed && strings.Contains(o.text.String(), "ready to accept connections") {
		o.readyClosed = true
		close(o.ready)
	}
	return len(p), nil
}

// String is what was kept.
func (o *outputLog) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
