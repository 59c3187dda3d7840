package debug

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// Limits of requests.
const (
	MaxSession  = 8 * time.Hour // how long a session may last at most
	MinSession  = time.Minute
	MaxValidity = 24 * time.Hour   // how long a request may wait for its owner at most
	BeginWithin = 10 * time.Minute // how long a permission waits for its session

	maxReason = 500 // characters
	maxCase   = 60
	maxSigned = 16 << 10 // bytes, of a request and its signature
	maxAhead  = 5 * time.Minute
	namespace = "sluice-debug" // of signatures of requests, so that a signature made for something else is none
)

// Request is what a person asks a cell's owner for.
type Request struct {
	Cell    string        `json:"cell"`
	Case    string        `json:"case" doc:"the vendor's name of the problem, such as a ticket's number"`
	Reason  string        `json:"reason"`
	Person  string        `json:"person" doc:"as in people of sluice.yaml"`
	Key     string        `json:"key" doc:"the person's public SSH key, in authorized_keys form without a comment"`
	Scope   Scope         `json:"scope"`
	For     time.Duration `json:"for" doc:"how long the session may last, in nanoseconds"`
	Nonce   string        `json:"nonce" doc:"16 random bytes in hexadecimal digits: two requests are never equal"`
	Made    time.Time     `json:"made"`
	Expires time.Time     `json:"expires" doc:"no permission can be made from then on"`
}

// SignedRequest is a request as it travels and as it is stored.
type SignedRequest struct {
	Document  []byte `json:"document" doc:"the request as JSON, as it was signed"`
	Signature string `json:"signature" doc:"armored SSH signature of the document by the request's key, in the namespace sluice-debug"`
}

// MaxRequests bounds Requests as JSON, in bytes.
const MaxRequests = 512 << 10

// Requests are those that a cell has to know of.
type Requests struct {
	Requests []SignedRequest `json:"requests"`
}

// ID returns the request's name: a hash of what was signed.
func (s SignedRequest) ID() string { return s.Hash()[:IDLength] }

// IDLength is how many hexadecimal digits an ID has: so many that no one can make a second request with the ID of one
// that they did not make.
const IDLength = 32

// Hash returns the hash of all that was signed, in hexadecimal digits.
func (s SignedRequest) Hash() string {
	sum := sha256.Sum256(s.Document)
	return hex.EncodeToString(sum[:])
}

// Sign signs a request. It fills in the key, and refuses what Open would refuse.
func Sign(r Request, signer ssh.Signer) (SignedRequest, error) {
	r.Key = formatKey(signer.PublicKey())
	r.Made, r.Expires = r.Made.UTC().Truncate(time.Second), r.Expires.UTC().Truncate(time.Second)
	if err := r.validate(); err != nil {
		return SignedRequest{}, err
	}
	document, err := json.Marshal(r)
	if err != nil {
		return SignedRequest{}, fmt.Errorf("encode request: %w", err)
	}
	sig, err := sshsig.Sign(bytes.NewReader(document), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return SignedRequest{}, fmt.Errorf("sign request: %w", err)
	}
	return SignedRequest{Document: document, Signature: string(sshsig.Armor(sig))}, nil
}

// ErrSignature means that a request was not signed by the key that it names.
var ErrSignature = errors.New("the request's signature is not by the key that the request names")

// Open returns the request, once its signature is by the key that it names. Whose key that is, and whether the request
// is for this cell and still valid, the caller has to find out (CheckFor).
func (s SignedRequest) Open() (Request, error) {
	if len(s.Document)+len(s.Signature) > maxSigned {
		return Request{}, fmt.Errorf("the request has more than %d KiB", maxSigned>>10)
	}
	decoder := json.NewDecoder(bytes.NewReader(s.Document))
	decoder.DisallowUnknownFields() // a newer request may mean more than this version would show to the owner
	var r Request
	if err := decoder.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	if again, err := json.Marshal(r); err != nil || !bytes.Equal(again, s.Document) {
		return Request{}, errors.New("the request is not written as sluice debug request writes it")
	}
	if err := r.validate(); err != nil {
		return Request{}, err
	}
	key, err := parseKey(r.Key)
	if err != nil {
		return Request{}, err
	}
	sig, err := sshsig.Unarmor([]byte(s.Signature))
	if err != nil || sig.Signature.Format == ssh.KeyAlgoRSA { // over SHA-1
		return Request{}, ErrSignature
	}
	if sshsig.Verify(bytes.NewReader(s.Document), sig, key, sig.HashAlgorithm, namespace) != nil {
		return Request{}, ErrSignature
	}
	return r, nil
}

// CheckFor says why the request can't be used for a cell at an instant; nil: it can.
func (r Request) CheckFor(cell string, now time.Time) error {
	switch {
	case r.Cell != cell:
		return fmt.Errorf("the request is for the cell %s, not for %s", r.Cell, cell)
	case !now.Before(r.Expires):
		return fmt.Errorf("the request expired at %s: ask for another", words.FormatTime(r.Expires))
	case r.Made.After(now.Add(maxAhead)):
		return fmt.Errorf("the request says that it was made at %s, which is in the future: compare the clocks",
			words.FormatTime(r.Made))
	}
	return nil
}

// PublicKey returns the key that signed the request, and that alone may open the session.
func (r Request) PublicKey() (ssh.PublicKey, error) { return parseKey(r.Key) }

// Fingerprint returns the key's fingerprint, as ssh-keygen -l prints it.
func (r Request) Fingerprint() string {
	key, err := parseKey(r.Key)
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(key)
}

var (
	hexNonce   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })
	personName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })
)

func (r Request) validate() error {
	switch {
	case r.Cell == "":
		return errors.New("the request names no cell")
	case !personName().MatchString(r.Person):
		return fmt.Errorf("person %.70q: use a name of people in sluice.yaml", r.Person)
	case strings.TrimSpace(r.Case) == "" || !isLine(r.Case, maxCase):
		return fmt.Errorf("case: name the problem in one line of at most %d characters, such as a ticket's number", maxCase)
	case strings.TrimSpace(r.Reason) == "" || !isLine(r.Reason, maxReason):
		return fmt.Errorf("reason: say in one line of at most %d characters what has to be found out", maxReason)
	case r.For < MinSession || r.For > MaxSession:
		return fmt.Errorf("a session lasts between %s and %s", words.ExactDuration(MinSession),
			words.ExactDuration(MaxSession))
	case !hexNonce().MatchString(r.Nonce):
		return errors.New("the request's nonce is not 16 bytes in hexadecimal digits")
	case !r.Expires.After(r.Made) || r.Expires.Sub(r.Made) > MaxValidity:
		return fmt.Errorf("a request is valid for at most %s", words.ExactDuration(MaxValidity))
	}
	return r.Scope.Validate()
}

// isLine reports whether s is at most limit characters in one line that is shown as it is.
func isLine(s string, limit int) bool {
	return len([]rune(s)) <= limit && cleantext.Line(s) == s
}

func formatKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func parseKey(text string) (ssh.PublicKey, error) {
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || comment != "" || len(options) > 0 || len(rest) > 0 || formatKey(key) != text {
		return nil, errors.New("the request's key is no public SSH key without comment and options")
	}
	return key, nil
}
