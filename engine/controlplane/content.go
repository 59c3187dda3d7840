package controlplane

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

const (
	contentWithin = 10 * time.Minute // for a cell on a slow line
	keptContent   = 32 << 20         // bytes of packed releases that are kept at hand
	keptBundles   = 16 << 20         // bytes of packed bundles of flags
)

// release answers GET /v1/releases/{digest}: the canonical tar, for ever the same. A cell gets few at once, and what
// waits for a slow reader is the one copy that all share.
func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	v, ok := s.view(w)
	if !ok {
		return
	}
	digest, err := releases.ParseDigest(r.PathValue("digest"))
	if err != nil || !offered(v, digest, cellOf(r)) {
		problem(w, http.StatusNotFound, "No release with this digest is offered: ask /v1/desired for the one that is.")
		return
	}
	if p := s.board.now().places[cellOf(r)]; p != nil {
		if !s.download(w, p) {
			return
		}
		defer p.downloads.Add(-1)
	}
	packed, err := s.content.get(digest, s.tar(v, digest))
	if err != nil {
		failed(w, err)
		return
	}
	give(w, r, packed, "application/x-tar")
}

// give answers with something that is for ever the same.
func give(w http.ResponseWriter, r *http.Request, p *packed, kind string) {
	deadlines(w, contentWithin)
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body, etag := p.plain, `"`+string(p.digest)+`"`
	// A part of it is always a part of the thing itself: compressed bytes may differ between versions of this server.
	if acceptsZstd(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" && p.zstd != nil {
		h.Set("Content-Encoding", "zstd")
		h.Set("Content-Length", fmt.Sprint(len(p.zstd)))
		body, etag = p.zstd, `"`+string(p.digest)+`-zstd"`
	}
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// download counts a cell's download in, or answers 429: it has as many already as it may at once.
func (s *Server) download(w http.ResponseWriter, p *place) bool {
	limit := s.opts.Limits.Downloads
	if n := p.downloads.Add(1); limit < 0 || int(n) <= limit {
		return true
	}
	p.downloads.Add(-1)
	s.metrics.turnedAway("downloads")
	retryAfter(w, 2)
	problem(w, http.StatusTooManyRequests, "This cell has "+strconv.Itoa(limit)+" downloads under way already: let one end first.")
	return false
}

// offered tells whether a cell may have these bytes (R34): its channel's heads, old ones too, for it may have to go
// back, and what it was given, in channels that it has left too. What it only says that it runs proves nothing. Without a name, on this machine only: whether any cell may.
func offered(v *view.View, digest releases.Digest, name string) bool {
	if name == "" {
		_, _, ok := v.Content(digest)
		return ok
	}
	cell := v.Desired.Cells[name]
	if cell == nil {
		return false
	}
	if c := v.Desired.Channels[cell.Channel]; c != nil {
		if slices.ContainsFunc(c.History, func(h plan.EffectiveHead) bool { return h.Digest == digest }) {
			return true
		}
	}
	state := v.Observed.Cells[name]
	if state == nil {
		return false
	}
	return state.Granted != nil && state.Granted.Digest == digest || slices.Contains(state.Left, digest)
}

// acceptsZstd reads Accept-Encoding.
func acceptsZstd(header string) bool {
	for one := range strings.SplitSeq(header, ",") {
		coding, parameter, weighted := strings.Cut(one, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "zstd") {
			continue
		}
		if !weighted {
			return true
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		return ok && err == nil && weight > 0
	}
	return false
}

// packed is something as it travels: a release's tar, or a bundle of flags. zstd is nil where it would not be smaller.
type packed struct {
	digest      releases.Digest
	plain, zstd []byte
}

func (p *packed) size() int { return len(p.plain) + len(p.zstd) }

// contents packs each thing once while it is asked for, and keeps those used last.
type contents struct {
	room    int // bytes that are kept
	packing singleflight.Group

	mu    sync.Mutex // guards what follows
	kept  map[releases.Digest]*list.Element
	order *list.List // of *packed, used last in front
	bytes int
}

func newContents(room int) *contents {
	return &contents{room: room, kept: map[releases.Digest]*list.Element{}, order: list.New()}
}

// get gives what read gives, packed. Only one reads at a time, and bytes that are not what the digest says never leave (invariant 5).
func (c *contents) get(digest releases.Digest, read func() ([]byte, error)) (*packed, error) {
	if p := c.use(digest); p != nil {
		return p, nil
	}
	p, err, _ := c.packing.Do(string(digest), func() (any, error) {
		plain, err := read()
		if err != nil {
			return nil, err
		}
		if got := releases.DigestBytes(plain); got != digest {
			return nil, fmt.Errorf("its bytes are %s: the mirror of the repository is damaged: remove it, and it is cloned again", got.Short())
		}
		p, err := pack(digest, plain)
		if err == nil {
			c.keep(p)
		}
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", digest.Short(), err)
	}
	return p.(*packed), nil
}

func pack(digest releases.Digest, plain []byte) (*packed, error) {
	p := &packed{digest: digest, plain: plain}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	smaller := encoder.EncodeAll(plain, nil)
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if len(smaller) < len(plain) {
		p.zstd = smaller
	}
	return p, nil
}

// tar gives how to make a release's canonical tar from git.
func (s *Server) tar(v *view.View, digest releases.Digest) func() ([]byte, error) {
	return func() ([]byte, error) {
		commit, version, ok := v.Content(digest)
		if !ok {
			return nil, errors.New("no head ever named it")
		}
		files, err := s.opts.Repository.FS(commit)
		if err != nil {
			return nil, fmt.Errorf("%s of %.12s: %w", version, commit, err)
		}
		var tar bytes.Buffer
		if err := releases.Pack(&tar, files, path.Join(releases.Dir, version)); err != nil {
			return nil, fmt.Errorf("%s of %.12s: %w", version, commit, err)
		}
		return tar.Bytes(), nil
	}
}

func (c *contents) use(digest releases.Digest) *packed {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.kept[digest]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*packed)
}

// keep holds on to p and lets go of those not used for longest. One that is larger than all the room is not kept.
func (c *contents) keep(p *packed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept[p.digest] != nil || p.size() > c.room {
		return
	}
	c.kept[p.digest] = c.order.PushFront(p)
	c.bytes += p.size()
	for c.bytes > c.room {
		oldest := c.order.Remove(c.order.Back()).(*packed)
		delete(c.kept, oldest.digest)
		c.bytes -= oldest.size()
	}
}
