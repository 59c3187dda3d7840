package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-cd/sluice/releases"
)

// heldBack is how many bytes of a blob are not passed on before its length and SHA-256 are right. A manifest is held
// back as a whole.
const heldBack = 64 << 10

// Content is opened content. It is read from disk, from a fill that is under way, or through from the registry if the
// disk has no room. Reads wait for bytes that are not here yet.
type Content struct {
	Digest    releases.Digest
	Size      int64
	MediaType string // empty: not known
	Kept      bool   // it was here when it was opened

	reader interface {
		io.ReaderAt
		io.Closer
	}
	at int64
}

func (c *Content) Read(b []byte) (int, error) {
	if c.at >= c.Size {
		return 0, io.EOF
	}
	n, err := c.reader.ReadAt(b[:min(int64(len(b)), c.Size-c.at)], c.at)
	c.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker, for ranges.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	c.at = offset
	return offset, nil
}

// Close ends reading. A fill goes on without its readers.
func (c *Content) Close() error { return c.reader.Close() }

// through reads content from the registry without keeping it, from its start: bytes before the wanted ones are only
// hashed. It is read forwards by one reader.
type through struct {
	ctx   context.Context
	fetch fetchFunc
	d     Descriptor

	body   io.ReadCloser
	sum    *hashingReader
	ready  []byte // bytes from offset on that may be passed on
	offset int64
	ended  bool
}

// hashingReader hashes what it reads.
type hashingReader struct {
	io.Reader
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (r *hashingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	_, _ = r.hash.Write(b[:n]) // never fails
	return n, err
}

func (t *through) ReadAt(b []byte, at int64) (int, error) {
	if t.body == nil || at < t.offset {
		if err := t.restart(); err != nil {
			return 0, err
		}
	}
	for {
		passable := len(t.ready)
		if !t.ended {
			passable = max(0, passable-heldBack)
		}
		if skip := at - t.offset; skip < int64(passable) {
			n := copy(b, t.ready[skip:passable])
			t.drop(int(skip) + n)
			return n, nil
		}
		t.drop(passable)
		if t.ended {
			return 0, io.EOF
		}
		if err := t.more(); err != nil {
			return 0, err
		}
	}
}

func (t *through) drop(n int) {
	t.ready = append(t.ready[:0], t.ready[n:]...)
	t.offset += int64(n)
}

func (t *through) restart() (err error) {
	_ = t.Close()
	t.ready, t.offset, t.ended = t.ready[:0], 0, false
	if t.body, err = t.fetch(t.ctx, 0); err != nil {
		return err
	}
	t.sum = &hashingReader{t.body, sha256.New()}
	return nil
}

// more reads on, and checks the whole at its end.
func (t *through) more() error {
	at := len(t.ready)
	t.ready = append(t.ready, make([]byte, heldBack)...)
	n, err := t.sum.Read(t.ready[at:])
	t.ready = t.ready[:at+n]
	switch size := t.offset + int64(len(t.ready)); {
	case size > t.d.limit() || errors.Is(err, io.EOF) && t.d.Size >= 0 && size != t.d.Size:
		return fmt.Errorf("%s has another length than the manifest says", t.d.Digest)
	case errors.Is(err, io.EOF):
		if got := releases.DigestFromSum(t.sum.hash.Sum(nil)); got != t.d.Digest {
			return fmt.Errorf("the registry's bytes have the digest %s, not %s", got, t.d.Digest)
		}
		t.ended = true
		return nil
	}
	return err
}

func (t *through) Close() error {
	if t.body == nil {
		return nil
	}
	err := t.body.Close()
	t.body = nil
	return err
}

// inMemory returns small content.
func inMemory(d Descriptor, text []byte) *Content {
	return &Content{Digest: d.Digest, Size: int64(len(text)), MediaType: d.MediaType,
		reader: memory{bytes.NewReader(text)}}
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
