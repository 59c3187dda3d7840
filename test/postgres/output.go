package postgres

import (
	"strings"
	"sync"
)

// outputLog records what a server prints, and signals when the server is ready.
type outputLog struct {
	ready chan struct{} // closed at the line that says so

	mu          sync.Mutex // guards what follows
	text        strings.Builder
	readyClosed bool
}

// maxOutput bounds the recorded output, in bytes: the beginning, which says why a start failed.
const maxOutput = 64 << 10

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

func (o *outputLog) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lastOutput returns the end of what a program said.
func lastOutput(text string) string {
	const most = 2 << 10
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}
