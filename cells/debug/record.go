package debug

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// blockSize is how many bytes of a record each link of its chain covers.
const blockSize = 4 << 10

// Chain hashes a record: each block of 4 KiB together with the hash before it, so that what was recorded so far can be
// compared at any time. The zero Chain is that of an empty record.
type Chain struct {
	last   [sha256.Size]byte
	block  hash.Hash
	filled int
	length int64
}

// Write adds to the record. It never fails.
func (c *Chain) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if c.block == nil {
			c.block = sha256.New()
			c.block.Write(c.last[:])
		}
		part := p[:min(len(p), blockSize-c.filled)]
		c.block.Write(part)
		c.filled, c.length, p = c.filled+len(part), c.length+int64(len(part)), p[len(part):]
		if c.filled == blockSize {
			c.block.Sum(c.last[:0])
			c.block, c.filled = nil, 0
		}
	}
	return n, nil
}

// Hash returns the hash of all that was written, in hexadecimal digits.
func (c *Chain) Hash() string {
	if c.block == nil {
		return hex.EncodeToString(c.last[:])
	}
	return hex.EncodeToString(c.block.Sum(nil))
}

// Length returns how many bytes were written.
func (c *Chain) Length() int64 { return c.length }

// HashRecord returns the hash and the length of a record.
func HashRecord(record io.Reader) (hash string, length int64, err error) {
	var c Chain
	if _, err := io.Copy(&c, record); err != nil {
		return "", 0, fmt.Errorf("read record: %w", err)
	}
	return c.Hash(), c.Length(), nil
}

// Seal closes a session's record. Both sides keep it, whoever keeps the record itself.
type Seal struct {
	Cell     string    `json:"cell"`
	Request  string    `json:"request"` // its ID
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Why      string    `json:"why" doc:"why the session ended"`
	Length   int64     `json:"length" doc:"of the record, in bytes"`
	Hash     string    `json:"hash" doc:"of the record, in links of 4 KiB"`
	Withheld bool      `json:"withheld,omitempty" doc:"the owner keeps the record itself"`
}

// SignedSeal is a seal as it travels and as it is stored.
type SignedSeal struct {
	Document  []byte `json:"document" doc:"the seal as JSON, as it was signed"`
	Signature []byte `json:"signature" doc:"by the cell's identity key"`
}

// NewSignedSeal signs a seal with a cell's identity key.
func NewSignedSeal(s Seal, identity ed25519.PrivateKey) (SignedSeal, error) {
	document, err := json.Marshal(s)
	if err != nil {
		return SignedSeal{}, fmt.Errorf("encode seal: %w", err)
	}
	return SignedSeal{document, ed25519.Sign(identity, sealMessage(document))}, nil
}

// Open returns the seal, once the cell's identity key signed it.
func (s SignedSeal) Open(identity ed25519.PublicKey) (Seal, error) {
	if !ed25519.Verify(identity, sealMessage(s.Document), s.Signature) {
		return Seal{}, errors.New("the record's seal is not signed by the cell's key")
	}
	return s.Read()
}

// Read returns the seal, whoever signed it: for one that the caller made, or opened before.
func (s SignedSeal) Read() (Seal, error) {
	var seal Seal
	if err := json.Unmarshal(s.Document, &seal); err != nil {
		return Seal{}, fmt.Errorf("read seal: %w", err)
	}
	return seal, nil
}

func sealMessage(document []byte) []byte {
	return append([]byte("sluice debug record 1\n"), document...)
}
