package swarm

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/identity"
)

type Member struct {
	Name string
	Key  ed25519.PrivateKey
}

// Members makes n cells named PREFIX-00000 and so on. The same seed makes the same keys, in every process.
func Members(prefix string, n int, seed uint64) []Member {
	all := make([]Member, n)
	for i := range all {
		name := fmt.Sprintf("%s-%05d", prefix, i)
		all[i] = Member{name, ed25519.NewKeyFromSeed(deriveBytes(seed, "key", name))}
	}
	return all
}

func (m Member) Public() ed25519.PublicKey { return m.Key.Public().(ed25519.PublicKey) }

// deriveBytes derives 32 bytes from the seed and words.
func deriveBytes(seed uint64, words ...string) []byte {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, seed) // a hash never fails
	for _, w := range words {
		h.Write([]byte(w + "\x00"))
	}
	return h.Sum(nil)
}

// deriveFraction derives a number in [0, 1) from the seed and words.
func deriveFraction(seed uint64, words ...string) float64 {
	return float64(binary.LittleEndian.Uint64(deriveBytes(seed, words...))>>11) / (1 << 53)
}

func makeCertificates(members []Member) ([]tls.Certificate, error) {
	now := time.Now()
	made := make([]tls.Certificate, len(members))
	var g errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() (err error) {
			for i := w; i < len(members) && err == nil; i += workers {
				made[i], err = identity.SelfSignedCertificate(rand.Reader, members[i].Key, members[i].Name, now)
				made[i].Leaf = nil // saves memory
			}
			return err
		})
	}
	return made, g.Wait()
}
