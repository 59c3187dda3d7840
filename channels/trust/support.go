package trust

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/words"
)

// MaxSupportKeys bounds the support keys of a policy.
const MaxSupportKeys = 256

// SupportKey is an SSH key of a person who may ask owners of cells for debug access.
type SupportKey struct {
	Name  string    `json:"name"` // the person's, as in people of sluice.yaml
	Key   string    `json:"key"`  // public, in authorized_keys form without a comment
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"` // the key counts no more from then on
}

// ParseSupportKey reads a key as .pub files have it, of any type that SSH knows.
func ParseSupportKey(name, line string) (SupportKey, error) {
	public, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(strings.TrimSpace(string(rest))) > 0 {
		return SupportKey{}, fmt.Errorf("the key of %s is not one SSH public key without options", name)
	}
	k := SupportKey{Name: name, Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))}
	return k, k.validate()
}

var supportName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })

func (k SupportKey) validate() error {
	public, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(k.Key))
	_, certificate := public.(*ssh.Certificate)
	switch {
	case !supportName().MatchString(k.Name):
		return fmt.Errorf("%.70q can't be the name of a person with a support key", k.Name)
	case err != nil || comment != "" || len(options) > 0 || len(rest) > 0 || certificate ||
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) != k.Key:
		return fmt.Errorf("the support key of %s is no public SSH key without comment and options", k.Name)
	case !k.From.IsZero() && !k.Until.IsZero() && !k.From.Before(k.Until):
		return fmt.Errorf("the support key of %s ends before it begins", k.Name)
	}
	return nil
}

// Equal reports whether both name the same key for the same person and times.
func (k SupportKey) Equal(other SupportKey) bool {
	return k.Name == other.Name && k.Key == other.Key && k.From.Equal(other.From) && k.Until.Equal(other.Until)
}

// times says from when and until when the key counts.
func (k SupportKey) times() (text string) {
	if !k.From.IsZero() {
		text = " from " + words.FormatTime(k.From)
	}
	if !k.Until.IsZero() {
		text += " until " + words.FormatTime(k.Until)
	}
	return text
}

// Fingerprint returns the key's fingerprint, as ssh-keygen -l prints it.
func (k SupportKey) Fingerprint() string {
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.Key))
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(public)
}

// Support is whose keys signers vouch for, so that no control plane can name its own.
type Support []SupportKey

func (s Support) validate() error {
	if len(s) > MaxSupportKeys {
		return fmt.Errorf("has %d support keys, and may have %d", len(s), MaxSupportKeys)
	}
	seen := map[string]bool{}
	for _, k := range s {
		if err := k.validate(); err != nil {
			return err
		}
		if seen[k.Key] {
			return fmt.Errorf("has a support key of %s twice", k.Name)
		}
		seen[k.Key] = true
	}
	return nil
}

// Check says why signers do not vouch at an instant for a key (in authorized_keys form without a comment) as one of a
// person's; nil: they do.
func (s Support) Check(person, key string, now time.Time) error {
	i := slices.IndexFunc(s, func(k SupportKey) bool { return k.Key == key })
	if i < 0 {
		return fmt.Errorf("the release signers name no such support key of %s: have them sign it (sluice trust support "+
			"add %s)", person, person)
	}
	if s[i].Name != person {
		return fmt.Errorf("the release signers name the key as that of %s, not of %s", s[i].Name, person)
	}
	return s[i].Check(now)
}

// Check says why the key does not count at an instant; nil: it does.
func (k SupportKey) Check(now time.Time) error {
	switch {
	case now.Before(k.From):
		return fmt.Errorf("the release signers name the key of %s from %s on", k.Name, words.FormatTime(k.From))
	case !k.Until.IsZero() && !now.Before(k.Until):
		return fmt.Errorf("the release signers named the key of %s until %s, so it is %w: have them sign it for longer "+
			"(sluice trust support add %s --until TIME)", k.Name, words.FormatTime(k.Until), ErrExpired, k.Name)
	}
	return nil
}

// AddSupport names keys that may ask for debug access. A key that is named already gets the new name and times. It
// reports whether that is news.
func (d *Draft) AddSupport(keys ...SupportKey) (changes bool, err error) {
	return d.changeSupport(func(is Support) (Support, error) {
		for _, k := range keys {
			k.From, k.Until = k.From.UTC().Truncate(time.Second), k.Until.UTC().Truncate(time.Second)
			if i := slices.IndexFunc(is, func(old SupportKey) bool { return old.Key == k.Key }); i >= 0 {
				is[i] = k
			} else {
				is = append(is, k)
			}
		}
		slices.SortFunc(is, func(a, b SupportKey) int {
			return strings.Compare(a.Name+" "+a.Key, b.Name+" "+b.Key)
		})
		return is, nil
	})
}

// RemoveSupport removes a support key of a person's; without a Key, all of them.
func (d *Draft) RemoveSupport(which SupportKey) error {
	_, err := d.changeSupport(func(is Support) (Support, error) {
		n := len(is)
		is = slices.DeleteFunc(is, func(k SupportKey) bool {
			return k.Name == which.Name && (which.Key == "" || which.Key == k.Key)
		})
		if len(is) == n {
			return nil, fmt.Errorf("%s has no such support key", which.Name)
		}
		return is, nil
	})
	return err
}

// changeSupport changes the support keys of the policy. It reports whether they are others then.
func (d *Draft) changeSupport(change func(Support) (Support, error)) (changes bool, err error) {
	if d.targets == nil {
		return false, errNoSigners
	}
	p, err := d.policy()
	if err != nil {
		return false, err
	}
	before := p.Support
	if p.Support, err = change(slices.Clone(before)); err != nil {
		return false, err
	}
	if err := p.Support.validate(); err != nil {
		return false, fmt.Errorf("the policy %w", err)
	}
	if slices.EqualFunc(before, p.Support, SupportKey.Equal) {
		return false, nil
	}
	return true, d.applyPolicy(p)
}
