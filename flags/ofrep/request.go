package ofrep

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/sluice-cd/sluice/flags"
)

// Limits of a request's body.
const (
	maxBody  = 64 << 10 // bytes
	maxDepth = 32       // of arrays and objects
)

// requestError is why a request is not answered: OFREP's code, and words.
type requestError struct {
	status int
	code   flags.ErrorCode
	text   string
}

// buffer is kept between requests.
type buffer struct{ bytes []byte }

// maxPooled is how large a buffer may be that is kept.
const maxPooled = 256 << 10

func (h *handler) getBuffer() *buffer {
	if b, is := h.buffers.Get().(*buffer); is {
		return b
	}
	return &buffer{bytes: make([]byte, 0, 4<<10)}
}

func (h *handler) putBuffer(b *buffer) {
	if cap(b.bytes) <= maxPooled {
		h.buffers.Put(b)
	}
}

// readContext gives the evaluation context of a request's body. No body: an empty one.
func (h *handler) readContext(r *http.Request) (flags.Context, *requestError) {
	tooLarge := &requestError{http.StatusRequestEntityTooLarge, flags.ErrorGeneral, "the body is larger than 64 KiB"}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	b := h.getBuffer()
	defer h.putBuffer(b)
	body, err := readBody(r.Body, b)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, tooLarge
	case err != nil:
		return nil, &requestError{http.StatusBadRequest, flags.ErrorParse, "the body could not be read"}
	case len(bytes.TrimSpace(body)) == 0:
		return flags.Context{}, nil
	case isTooDeep(body):
		return nil, &requestError{http.StatusBadRequest, flags.ErrorInvalidContext, "the context is nested deeper than 32"}
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorParse, "the body is not JSON: " + err.Error()}
	}
	outer, is := value.(map[string]any)
	if !is {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorParse, "the body is not a JSON object"}
	}
	given := outer["context"]
	if given == nil {
		return flags.Context{}, nil
	}
	ctx, is := given.(map[string]any)
	if !is {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorInvalidContext, "the context is not an object"}
	}
	if key, there := ctx["targetingKey"]; there && key != nil {
		if _, is := key.(string); !is {
			return nil, &requestError{http.StatusBadRequest, flags.ErrorInvalidContext, "targetingKey is not a string"}
		}
	}
	return ctx, nil
}

var errTooLarge = errors.New("too large")

func readBody(from io.Reader, b *buffer) ([]byte, error) {
	into := b.bytes[:0]
	for {
		if len(into) == cap(into) {
			into = append(into, 0)[:len(into)]
		}
		n, err := from.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		b.bytes = into
		switch {
		case len(into) > maxBody:
			return nil, errTooLarge
		case err == io.EOF:
			return into, nil
		case err != nil:
			return nil, err
		}
	}
}

// isTooDeep tells whether the body is nested deeper than a context may be in it. It sees only brackets: what is wrong with
// them otherwise, the decoder says.
func isTooDeep(body []byte) bool {
	depth, text := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// isBrowser tells whether a page asks: only browsers send these, and pages can't leave them out. Sec-Fetch-Mode is not among
// them: Node's fetch sends it too.
func isBrowser(r *http.Request) bool {
	return r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil
}

// isLocal tells whether the request is for this machine by name. A page whose name was pointed here brings that name along.
func isLocal(r *http.Request) bool {
	if addr, is := r.Context().Value(http.LocalAddrContextKey).(net.Addr); is && addr.Network() == "unix" {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip := net.ParseIP(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return ip != nil && ip.IsLoopback()
}
