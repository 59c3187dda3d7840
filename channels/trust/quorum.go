package trust

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/internal/words"
)

// Quorum says who signed a file, of those whose signatures count.
type Quorum struct {
	Threshold int      `json:"threshold"`
	Signed    []string `json:"signed"` // names, sorted
	Others    []string `json:"others"` // who may sign, and did not
}

// Held reports whether enough people signed.
func (q Quorum) Held() bool { return q.Threshold > 0 && len(q.Signed) >= q.Threshold }

// String says who signed and, while it is not enough, who may: "1 of 2 signatures: ada; needs one of grace, linus".
func (q Quorum) String() string {
	text := fmt.Sprintf("%d of %d signatures", len(q.Signed), q.Threshold)
	if len(q.Signed) > 0 {
		text += ": " + words.Some(q.Signed, 8)
	}
	if q.Held() {
		return text
	}
	return text + "; " + q.needs()
}

// needs says who has to sign yet.
func (q Quorum) needs() string {
	missing, others := q.Threshold-len(q.Signed), words.Some(q.Others, 8)
	switch {
	case len(q.Others) == 0:
		return "nobody else may sign it"
	case missing >= len(q.Others):
		return "needs " + others
	case missing == 1:
		return "needs one of " + others
	}
	return fmt.Sprintf("needs %d of %s", missing, others)
}

// role is who may sign something.
type role struct {
	name      string
	threshold int
	ids       []string
	keys      map[string]*metadata.Key
}

// rootRole returns who signs a top-level role.
func rootRole(root *metadata.Metadata[metadata.RootType], name string) role {
	r := root.Signed.Roles[name]
	return role{name, r.Threshold, r.KeyIDs, root.Signed.Keys}
}

// delegatedRole returns who signs a role that targets delegates to.
func delegatedRole(targets *metadata.Metadata[metadata.TargetsType], name string) (role, bool) {
	if d := targets.Signed.Delegations; d != nil {
		for _, r := range d.Roles {
			if r.Name == name {
				return role{name, r.Threshold, r.KeyIDs, d.Keys}, true
			}
		}
	}
	return role{}, false
}

// countSignatures says who of a role signed a file. What is signed is encoded once, and only if there is a signature to
// verify: files may be large, and anybody's.
func countSignatures[T metadata.Roles](r role, file *metadata.Metadata[T]) Quorum {
	q := Quorum{Threshold: r.threshold, Signed: []string{}, Others: []string{}}
	signatures := make(map[string][]byte, len(file.Signatures))
	for _, s := range file.Signatures {
		signatures[s.KeyID] = s.Signature
	}
	payload := sync.OnceValue(func() []byte {
		data, _ := cjson.EncodeCanonical(file.Signed) // what has no such form has no signature
		return data
	})
	for _, id := range r.ids {
		key, err := readKey(id, r.keys[id])
		signature, there := signatures[id]
		if there && err == nil && len(key.Public) == ed25519.PublicKeySize && payload() != nil &&
			ed25519.Verify(key.Public, payload(), signature) {
			q.Signed = append(q.Signed, ownerOf(id, r.keys[id]))
		} else {
			q.Others = append(q.Others, ownerOf(id, r.keys[id]))
		}
	}
	slices.Sort(q.Signed)
	slices.Sort(q.Others)
	return q
}

// has returns the id under which r has a public key; empty: it has not.
func (r role) has(k Key) string {
	want := k.tuf().Value.PublicKey
	for _, id := range r.ids {
		if strings.EqualFold(r.keys[id].Value.PublicKey, want) {
			return id
		}
	}
	return ""
}

// members returns the keys of a role.
func (r role) members() (all []Key, err error) {
	for _, id := range r.ids {
		k, err := readKey(id, r.keys[id])
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

func readKey(id string, k *metadata.Key) (Key, error) {
	public, err := hex.DecodeString(k.Value.PublicKey)
	if err != nil {
		return Key{}, fmt.Errorf("key %.8s: %w", id, err)
	}
	name, _ := k.UnrecognizedFields[nameField].(string)
	return Key{name, public}, nil
}
