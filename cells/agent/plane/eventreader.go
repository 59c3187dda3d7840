package plane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	maxStreamRetry = 30 * time.Second // limit of a stream's retry field
	// Limits on reading a stream in a second, so that no server can make the agent spin: the bytes, and the cost of a
	// line in bytes on top of its length.
	maxBytesPerSecond = 2 << 20
	lineCost          = 1 << 10
)

// eventReader reads server-sent events (HTML living standard, section 9.2). One goroutine uses it.
type eventReader struct {
	ctx         context.Context //nolint:containedctx // of the read that it stands for
	lines       *bufio.Reader
	onLine      func()        // called for each line
	retry       time.Duration // how long the stream asked to stay away after its end; zero: not asked
	buffer      []byte        // of the current line
	secondStart time.Time     // start of the second being counted
	secondBytes int           // cost of that second
}

// event is a server-sent event, or a comment if it has no name.
type event struct {
	name, id string
	data     []byte
}

func newEventReader(ctx context.Context, body io.Reader, alive func()) *eventReader {
	return &eventReader{ctx: ctx, lines: bufio.NewReaderSize(body, 4<<10), onLine: alive}
}

var errEventTooLong = fmt.Errorf("an event has more than %d bytes", MaxDesired)

// readEvent reads the next event or comment.
func (s *eventReader) readEvent() (event, error) {
	var e event
	hasData := false
	for {
		line, err := s.readLine()
		if err != nil {
			return event{}, err
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(line) == 0 && hasData:
			e.data = bytes.TrimSuffix(e.data, []byte("\n"))
			if e.name == "" {
				e.name = "message"
			}
			return e, nil
		case len(line) == 0:
			e = event{} // an event without data is ignored
		case len(field) == 0 && !hasData:
			return event{}, nil
		case string(field) == "event":
			e.name = string(value)
		case string(field) == "id":
			e.id = string(value)
		case string(field) == "data":
			hasData = true
			if e.data = append(append(e.data, value...), '\n'); len(e.data) > MaxDesired {
				return event{}, errEventTooLong
			}
		case string(field) == "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				s.retry = backoff.Lengthen(min(time.Duration(ms)*time.Millisecond, maxStreamRetry))
			}
		}
	}
}

// readLine returns the next line without its end. The bytes are valid until the next call.
func (s *eventReader) readLine() ([]byte, error) {
	s.buffer = s.buffer[:0]
	for {
		part, err := s.lines.ReadSlice('\n')
		s.buffer = append(s.buffer, part...)
		if len(s.buffer) > MaxDesired+lineCost {
			return nil, errEventTooLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.onLine()
		s.throttle(len(s.buffer) + lineCost)
		return bytes.TrimRight(s.buffer, "\r\n"), nil
	}
}

// throttle adds to the cost of the second and waits for its end if the limit is exceeded.
func (s *eventReader) throttle(n int) {
	if now := time.Now(); now.Sub(s.secondStart) >= time.Second {
		s.secondStart, s.secondBytes = now, 0
	}
	if s.secondBytes += n; s.secondBytes > maxBytesPerSecond {
		_ = backoff.Sleep(s.ctx, time.Until(s.secondStart.Add(time.Second)))
	}
}
