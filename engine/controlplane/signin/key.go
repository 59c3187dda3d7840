package signin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/internal/cleantext"
)

// Key encrypts by AES-256-GCM what the store and browsers keep for this package.
type Key [32]byte

var errNotReady = engine.ErrNotReady

// LoadOrCreateKey reads the key in a file, or makes one there. Of several processes that make one, the first wins.
func LoadOrCreateKey(file string) (k Key, err error) {
	for {
		data, err := readKey(file)
		switch {
		case err == nil && len(data) != len(k):
			return k, fmt.Errorf("%s is not a key of %d bytes: remove it, and people sign in again", file, len(k))
		case err == nil:
			copy(k[:], data)
			return k, nil
		case !errors.Is(err, fs.ErrNotExist):
			return k, fmt.Errorf("read the key of sign-ins: %w", err)
		}
		if err := createKey(file); err != nil && !errors.Is(err, fs.ErrExist) {
			return k, fmt.Errorf("create the key of sign-ins: %w", err)
		}
	}
}

func readKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64))
}

// createKey writes a whole key or nothing: other processes may read the file at any time.
func createKey(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".signin-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	var k Key
	_, _ = rand.Read(k[:]) // never fails
	_, err = f.Write(k[:])
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file) // fails if it exists
}

// seal encrypts plain for one purpose, such as one record.
func (k Key) seal(purpose string, plain []byte) string {
	return base64.RawURLEncoding.EncodeToString(k.aead().Seal(nil, nil, plain, []byte(purpose)))
}

// open returns what seal encrypted for the same purpose.
func (k Key) open(purpose, text string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("not encrypted here")
	}
	return k.aead().Open(nil, nil, sealed, []byte(purpose))
}

func (k Key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err == nil {
		if a, err := cipher.NewGCMWithRandomNonce(block); err == nil {
			return a
		}
	}
	panic("AES-256-GCM is not there") // only for keys of a wrong length
}

func (k Key) sealJSON(purpose string, value any) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	return k.seal(purpose, data), nil
}

func (k Key) openJSON(purpose, text string, into any) error {
	data, err := k.open(purpose, text)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func newSecret() (string, error) { return identity.NewSecret(rand.Reader) }

func hashOf(secret string) string { return identity.HashSecret(secret) }

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// clip makes text from outside fit to be shown on one line.
func clip(text string) string {
	const most = 200
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return cleantext.Line(text)
}
