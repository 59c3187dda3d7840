package channels

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// AddFreeze returns the policy with one more freeze, to the second, as `sluice freeze` commits it. All other text stays
// unchanged, comments and spacing included.
func AddFreeze(channelYAML []byte, f Freeze) ([]byte, error) {
	f.From, f.Until = f.From.Truncate(time.Second), f.Until.Truncate(time.Second)
	if !f.From.Before(f.Until) {
		return nil, errors.New("add a freeze: it must end after it begins")
	}
	if !utf8.ValidString(f.Reason) {
		return nil, errors.New("add a freeze: its reason is not valid UTF-8")
	}
	before, faults := manifest.Decode[Channel]("channel.yaml", channelYAML)
	if len(faults) > 0 {
		return nil, fmt.Errorf("add a freeze: correct the policy first: %s", faults[0])
	}
	edited, err := edit.Append(channelYAML, []string{"freezes"}, formatFreeze(f), func(edited []byte) bool {
		after, faults := manifest.Decode[Channel]("channel.yaml", edited)
		return len(faults) == 0 && addsOnlyFreeze(before.Value, after.Value, f)
	})
	switch {
	case errors.Is(err, edit.ErrLayout):
		return nil, errors.New("add a freeze: the file is laid out in a way that can't be edited: add it by hand")
	case err != nil:
		return nil, fmt.Errorf("add a freeze: %w", err)
	}
	return edited, nil
}

// EndFreezes returns the policy with its freezes ended: one that began ends now, to the second, and one that has not
// begun is gone. ended are those as they were; none: the policy has none to end. All other text stays unchanged.
func EndFreezes(channelYAML []byte, now time.Time) (edited []byte, ended []Freeze, err error) {
	now = now.UTC().Truncate(time.Second)
	policy, faults := manifest.Decode[Channel]("channel.yaml", channelYAML)
	if len(faults) > 0 {
		return nil, nil, fmt.Errorf("end freezes: correct the policy first: %s", faults[0])
	}
	left := []Freeze{}
	for _, f := range policy.Value.Freezes {
		switch {
		case !f.Until.After(now):
			left = append(left, f)
			continue
		case f.From.Before(now):
			left = append(left, Freeze{From: f.From, Until: now, Reason: f.Reason})
		}
		ended = append(ended, f)
	}
	if len(ended) == 0 {
		return channelYAML, nil, nil
	}
	if len(left) == 0 {
		edited, err = edit.Remove(channelYAML, "freezes") // an empty list would be a fault
	} else {
		edited, err = edit.Set(channelYAML, []string{"freezes"}, left)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("end freezes: %w", err)
	}
	return edited, ended, nil
}

// SetEngineKeys returns sluice.yaml with those keys as the engine's. All other text stays unchanged.
func SetEngineKeys(pipelineYAML []byte, keys []string) ([]byte, error) {
	edited, err := edit.Set(pipelineYAML, []string{"engine"}, edit.Fields{{Key: "keys", Value: keys}})
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", pipelineFile, err)
	}
	return edited, nil
}

// AddPasskey returns sluice.yaml with one more passkey of a person whom people lists. All other text stays unchanged.
func AddPasskey(pipelineYAML []byte, person string, k passkey.Key) ([]byte, error) {
	before, faults := manifest.Decode[Pipeline](pipelineFile, pipelineYAML)
	if len(faults) > 0 {
		return nil, fmt.Errorf("edit %s: correct it first: %s", pipelineFile, faults[0])
	}
	member := before.Value.People[person]
	if member == nil {
		return nil, fmt.Errorf("edit %s: it has no person %q", pipelineFile, person)
	}
	at, fields := []string{"people", person, "passkeys"}, edit.Fields{{Key: "id", Value: k.ID},
		{Key: "publicKey", Value: k.PublicKey}, {Key: "origin", Value: k.Origin}}
	var edited []byte
	var err error
	if len(member.Passkeys) == 0 {
		edited, err = edit.Set(pipelineYAML, at, []any{fields})
	} else {
		line, _ := fields.MarshalJSON() // strings always encode
		edited, err = edit.Append(pipelineYAML, at, string(line), func(edited []byte) bool {
			after, faults := manifest.Decode[Pipeline](pipelineFile, edited)
			return len(faults) == 0 && addsOnlyPasskey(before.Value, after.Value, person, k)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", pipelineFile, err)
	}
	return edited, nil
}

// addsOnlyPasskey reports whether the person's passkey k is the only difference between before and after.
func addsOnlyPasskey(before, after Pipeline, person string, k passkey.Key) bool {
	old, now := before.People[person], after.People[person]
	if old == nil || now == nil {
		return false
	}
	i := slices.Index(now.Passkeys, k)
	if i < 0 || !slices.Equal(slices.Delete(slices.Clone(now.Passkeys), i, i+1), old.Passkeys) {
		return false
	}
	same := *now
	same.Passkeys = old.Passkeys
	after.People = maps.Clone(after.People)
	after.People[person] = &same
	return reflect.DeepEqual(before, after)
}

func formatFreeze(f Freeze) string {
	s := "{from: " + f.From.Format(time.RFC3339) + ", until: " + f.Until.Format(time.RFC3339)
	if f.Reason != "" {
		s += ", reason: " + strconv.Quote(f.Reason) // Go's escapes are YAML's too
	}
	return s + "}"
}

// addsOnlyFreeze reports whether f is the only difference between before and after.
func addsOnlyFreeze(before, after Channel, f Freeze) bool {
	same := func(a, b Freeze) bool { return a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Reason == b.Reason }
	i := slices.IndexFunc(after.Freezes, func(g Freeze) bool { return same(f, g) })
	if i < 0 || !slices.EqualFunc(slices.Delete(slices.Clone(after.Freezes), i, i+1), before.Freezes, same) {
		return false
	}
	before.Freezes, after.Freezes = nil, nil
	return reflect.DeepEqual(before, after)
}
