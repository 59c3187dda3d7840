package debugger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/cells/debug"
)

const (

	// A record is synced this often, and sooner if much of it is not.
	syncEvery   = 250 * time.Millisecond
	maxUnsynced = 4 << 20

	maxEvent = 32 << 10 // bytes of output or input in one event
)

// Codes of events. Those of asciicast v2 are o, i, r and m; players skip others.
const (
	eventOutput = 'o'
	eventInput  = 'i'
	eventResize = 'r'
	eventMarker = 'm' // a command, and why the session ended
	eventBinary = 'x' // the bytes of the event before, in base64, if they are no UTF-8
)

// recordFile is where a record is written. *os.File implements it.
type recordFile interface {
	io.Writer
	Truncate(size int64) error
	Sync() error
	Close() error
}

// recorder writes a session's record, as asciicast v2. What it does not take must not leave the cell: its first error
// is kept, and ends the session (D6).
type recorder struct {
	failed func(error) // called once, with the first error
	began  time.Time
	limit  int64
	done   chan struct{}
	synced sync.WaitGroup

	mu       sync.Mutex // guards what follows
	file     recordFile
	chain    debug.Chain
	packer   io.Writer // compresses what was written, for its length alone: a record that can't be sent is none
	packed   *counter
	line     []byte
	unsynced int
	err      error
}

// createRecord creates the file of a record. A file that is there is of a session that never began.
func createRecord(name string) (recordFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // its folder is the owner's
	if err != nil {
		return nil, fmt.Errorf("create the session's record: %w", err)
	}
	return f, nil
}

// newRecorder writes the head of a record.
func newRecorder(file recordFile, title string, now time.Time, failed func(error)) (*recorder, error) {
	head, err := json.Marshal(struct {
		Version   int    `json:"version"`
		Width     int    `json:"width"`
		Height    int    `json:"height"`
		Timestamp int64  `json:"timestamp"`
		Title     string `json:"title"`
	}{2, 80, 24, now.Unix(), title})
	if err != nil {
		return nil, err
	}
	r := &recorder{failed: failed, began: now, limit: debug.MaxRecord, done: make(chan struct{}), file: file,
		packed: new(counter)}
	if r.packer, err = newPacker(r.packed); err != nil {
		return nil, err
	}
	r.line = append(head, '\n')
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.writeLine(); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, fmt.Errorf("write the session's record: %w", err)
	}
	r.unsynced = 0
	r.synced.Go(r.keepSynced)
	return r, nil
}

// packMargin is more than a packer holds back.
const packMargin = 2 << 20

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var errRecordFull = errors.New("the session's record is full")

// add records an event. Once it returns nil, the event is in the file.
func (r *recorder) add(code byte, text []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		part := text[:min(len(text), maxEvent)]
		if len(part) < len(text) {
			whole, _ := splitRune(part)
			if len(whole) > 0 {
				part = whole
			}
		}
		text = text[len(part):]
		r.appendEvent(code)
		r.line = appendString(r.line, part)
		r.line = append(r.line, "]\n"...)
		if !utf8.Valid(part) {
			r.appendEvent(eventBinary)
			r.line = append(append(r.line, '"'), base64.StdEncoding.EncodeToString(part)...)
			r.line = append(r.line, "\"]\n"...)
		}
		if err := r.writeLine(); err != nil || len(text) == 0 {
			return err
		}
	}
}

func (r *recorder) appendEvent(code byte) {
	r.line = append(r.line, '[')
	r.line = strconv.AppendFloat(r.line, time.Since(r.began).Seconds(), 'f', 6, 64)
	r.line = append(r.line, `, "`...)
	r.line = append(append(r.line, code), `", `...)
}

// writeLine writes r.line. The caller holds r.mu.
func (r *recorder) writeLine() error {
	switch {
	case r.err != nil:
		return r.err
	case r.chain.Length()+int64(len(r.line)) > r.limit || *r.packed+packMargin > debug.MaxPacked:
		return r.fail(errRecordFull)
	}
	n, err := r.file.Write(r.line)
	if err != nil && n > 0 && r.file.Truncate(r.chain.Length()) == nil {
		n = 0 // a full disk took a part of the line, which no player can read
	}
	_, _ = r.chain.Write(r.line[:n])  // it never fails
	_, _ = r.packer.Write(r.line[:n]) // it counts
	r.line, r.unsynced = r.line[:0], r.unsynced+n
	if err == nil && r.unsynced > maxUnsynced {
		err, r.unsynced = r.file.Sync(), 0
	}
	if err != nil {
		return r.fail(fmt.Errorf("write the session's record: %w", err))
	}
	return nil
}

// fail keeps the first error. The caller holds r.mu.
func (r *recorder) fail(err error) error {
	if r.err == nil {
		r.err = err
		go r.failed(err) // it may want to record why the session ends
	}
	return r.err
}

// keepSynced syncs the file until the recorder is closed.
func (r *recorder) keepSynced() {
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		due := r.unsynced > 0
		r.unsynced = 0
		r.mu.Unlock()
		if !due {
			continue
		}
		if err := r.file.Sync(); err != nil {
			r.mu.Lock()
			_ = r.fail(fmt.Errorf("write the session's record: %w", err))
			r.mu.Unlock()
		}
	}
}

// close ends the record and returns the hash and the length of what is in the file.
func (r *recorder) close() (hash string, length int64, err error) {
	close(r.done)
	r.synced.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	err = errors.Join(r.err, r.file.Sync(), r.file.Close())
	r.err = errors.Join(r.err, os.ErrClosed)
	return r.chain.Hash(), r.chain.Length(), err
}

// recordedWriter passes on what was recorded. A character that is not complete waits for the rest of it.
type recordedWriter struct {
	recorder *recorder
	to       io.Writer
	crlf     bool // lines end as terminals want them

	mu   sync.Mutex
	rest []byte
}

func (w *recordedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := p
	if w.crlf {
		all = toTerminal(p)
	}
	if len(w.rest) > 0 {
		all = append(w.rest, all...)
	}
	whole, rest := splitRune(all)
	w.rest = append([]byte(nil), rest...)
	return len(p), w.pass(whole)
}

func (w *recordedWriter) pass(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := w.recorder.add(eventOutput, p); err != nil {
		return err
	}
	_, err := w.to.Write(p)
	return err
}

// verbatim passes text on as it is.
func (w *recordedWriter) verbatim(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.pass([]byte(text)) // an error ended the session
}

// flush passes on what waits.
func (w *recordedWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.pass(w.rest) // an error ended the session
	w.rest = nil
}

// recordedReader records what it returns.
type recordedReader struct {
	recorder *recorder
	from     io.Reader
}

func (r *recordedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		if recorded := r.recorder.add(eventInput, p[:n]); recorded != nil {
			return 0, recorded
		}
	}
	return n, err
}

// splitRune splits off the beginning of a character whose end is missing.
func splitRune(p []byte) (whole, rest []byte) {
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if b := p[len(p)-i]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-i:]) {
				return p[:len(p)-i], p[len(p)-i:]
			}
			break
		}
	}
	return p, nil
}

// toTerminal makes line feeds carriage returns with line feeds.
func toTerminal(p []byte) []byte {
	out := make([]byte, 0, len(p)+len(p)/16)
	for _, b := range p {
		if b == '\n' {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	return out
}

// appendString appends text as a string of JSON. What is no UTF-8 is replaced.
func appendString(to, text []byte) []byte {
	quoted := bytes.NewBuffer(to)
	e := json.NewEncoder(quoted)
	e.SetEscapeHTML(false)
	_ = e.Encode(string(text)) // there is no string that it refuses
	return bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))
}
