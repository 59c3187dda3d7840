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
	maxRetry = 30 * time.Second // of what a stream may say on how long to stay away
	// What is read of a stream in a second: bytes, of which each line counts for perLine more. Nobody makes the agent spin.
	perSecond = 2 << 20
	perLine   = 1 << 10
)

// sse reads server-sent events (HTML living standard, section 9.2). One goroutine uses it.
type sse struct {
	ctx   context.Context //nolint:containedctx // of the read that it stands for
	lines *bufio.Reader
	alive func()        // called with each line
	retry time.Duration // how long the stream asked to stay away after its end; zero: it did not
	long  []byte        // room for a line
	since time.Time     // when the second began
	spent int           // in that second
}

// event is one of them, or a comment: then it has no name.
type event struct {
	name, id string
	data     []byte
}

func newSSE(ctx context.Context, body io.Reader, alive func()) *sse {
	return &sse{ctx: ctx, lines: bufio.NewReaderSize(body, 4<<10), alive: alive}
}

var errLong = fmt.Errorf("an event has more than %d bytes", MaxDesired)

// next reads to the end of the next event, or comment.
func (s *sse) next() (event, error) {
	var e event
	some := false
	for {
		line, err := s.line()
		if err != nil {
			return event{}, err
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(line) == 0 && some:
			e.data = bytes.TrimSuffix(e.data, []byte("\n"))
			if e.name == "" {
				e.name = "message"
			}
			return e, nil
		case len(line) == 0:
			e = event{} // without data there is no event
		case len(field) == 0 && !some:
			return event{}, nil
		case string(field) == "event":
			e.name = string(value)
		case string(field) == "id":
			e.id = string(value)
		case string(field) == "data":
			some = true
			if e.data = append(append(e.data, value...), '\n'); len(e.data) > MaxDesired {
				return event{}, errLong
			}
		case string(field) == "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				s.retry = backoff.Lengthen(min(time.Duration(ms)*time.Millisecond, maxRetry))
			}
		}
	}
}

// line reads one, without its end. It is good until the next call.
func (s *sse) line() ([]byte, error) {
	s.long = s.long[:0]
	for {
		part, err := s.lines.ReadSlice('\n')
		s.long = append(s.long, part...)
		if len(s.long) > MaxDesired+perLine {
			return nil, errLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.alive()
		s.slow(len(s.long) + perLine)
		return bytes.TrimRight(s.long, "\r\n"), nil
	}
}

// slow waits out the second if more was read in it than should be.
func (s *sse) slow(n int) {
	if now := time.Now(); now.Sub(s.since) >= time.Second {
		s.since, s.spent = now, 0
	}
	if s.spent += n; s.spent > perSecond {
		_ = backoff.Sleep(s.ctx, time.Until(s.since.Add(time.Second)))
	}
}
