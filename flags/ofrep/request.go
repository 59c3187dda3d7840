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

// requestError is why a request is refused: HTTP status, OFREP's code and details.
type requestError struct {
	status int
	code   flags.ErrorCode
	text   string
}

// buffer is pooled between requests.
type buffer struct {
	bytes  []byte
	hashes []byte // of the answers in bytes
}

// maxPooled is the size up to which buffers return to the pool, in bytes.
const maxPooled = 256 << 10

func (h *handler) getBuffer() *buffer {
	if b, ok := h.buffers.Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, 0, 4<<10)}
}

func (h *handler) putBuffer(b *buffer) {
	if cap(b.bytes) <= maxPooled {
		h.buffers.Put(b)
	}
}

// readContext reads the evaluation context from a request's body. An empty body is an empty context.
func (h *handler) readContext(r *http.Request) (flags.Context, *requestError) {
	tooLarge := &requestError{http.StatusRequestEntityTooLarge, flags.ErrorGeneral, "the body is larger than 64 KiB"}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &requestError{http.StatusUnsupportedMediaType, flags.ErrorGeneral,
			"the body is compressed: send it as it is"}
	}
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
		return nil, &requestError{
			http.StatusBadRequest, flags.ErrorInvalidContext, "the context is nested deeper than 32",
		}
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorParse, "the body is not JSON: " + err.Error()}
	}
	outer, ok := value.(map[string]any)
	if !ok {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorParse, "the body is not a JSON object"}
	}
	given := outer["context"]
	if given == nil {
		return flags.Context{}, nil
	}
	ctx, ok := given.(map[string]any)
	if !ok {
		return nil, &requestError{http.StatusBadRequest, flags.ErrorInvalidContext, "the context is not an object"}
	}
	if key, found := ctx["targetingKey"]; found && key != nil {
		if _, ok := key.(string); !ok {
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

// isTooDeep reports whether the body nests deeper than allowed. It only counts brackets; the decoder finds other
// errors.
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

// isBrowser reports whether a page sent the request: only browsers send these headers, and pages can't leave them out.
// Sec-Fetch-Mode is no sign, since Node's fetch sends it too.
func isBrowser(r *http.Request) bool {
	return r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil
}

// isLocal reports whether the request names this machine. A page whose name was pointed here (DNS rebinding) sends its
// own name.
func isLocal(r *http.Request) bool {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && addr.Network() == "unix" {
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
