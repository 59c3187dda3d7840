package oracle

import (
	"encoding/json"
	"flag"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

var (
	count = flag.Int("cases", 100_000, "how many flags and contexts to compare, over all seeds")
	first = flag.Uint64("seed", 1, "the first seed")
)

const (
	seeds    = 4
	perFlag  = 4   // contexts
	perStore = 500 // flags
)

// TestSameAsFlagd compares 100,000 random flags and contexts: value, variant, reason, error code and metadata must be
// flagd's.
//
// Two kinds of rules are left out, for which flagd/core has no answer:
//   - Rules that exceed our budget: "if" evaluates an object from the context, so that a context with a rule that
//     refers to itself is an endless recursion, which ends flagd's process. Our result is an error, and flagd is not
//     called.
//   - Rules whose answer in flagd depends on chance: flagd puts variables into bodies in the order of Go's maps, so
//     that an operator may fail before or after a "var" beside it.
func TestSameAsFlagd(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", *first+seed), func(t *testing.T) {
			t.Parallel()
			var left exclusions
			for done, stream := 0, uint64(0); done < *count/seeds && !t.Failed(); stream++ {
				done += compareSet(t, newGenerator(*first+seed, stream), &left)
			}
			t.Logf("left out: %+v", left)
			if left.endless+left.fickle > *count/seeds/1000 {
				t.Errorf("more than one in a thousand was left out: %+v", left)
			}
		})
	}
}

type exclusions struct{ endless, fickle int }

func compareSet(t *testing.T, g generator, left *exclusions) (done int) {
	set := make(map[string]Flag, perStore)
	callers := make(map[string][]map[string]any, perStore)
	for i := range perStore {
		key, f := fmt.Sprintf("flag-%d", i), g.flag()
		for range perFlag {
			caller := g.context()
			callers[key] = append(callers[key], caller)
			if g.chance(80) {
				addVariant(f, key, caller)
			}
		}
		set[key] = f
	}
	flagd, err := New(set)
	if err != nil {
		t.Fatal(err)
	}
	for i := range perStore {
		key := fmt.Sprintf("flag-%d", i)
		for _, caller := range callers[key] {
			done++
			switch compare(t, flagd, key, set[key], caller) {
			case endless:
				left.endless++
			case unstable:
				left.fickle++
			case different:
				reportDifference(t, key, set[key], caller)
				return done
			}
		}
	}
	return done
}

// addVariant adds a variant named by our result of the rule: flagd finds the variant only if its result is equal.
func addVariant(f Flag, key string, caller map[string]any) {
	rule, err := jsonlogic.Compile(f.Targeting)
	if err != nil {
		return // no rule
	}
	v, err := rule.Evaluate(jsonlogic.Input{Data: caller, FlagKey: key, At: time.Now().Unix()})
	if err != nil {
		return
	}
	if text, err := jsonlogic.Text(v); err == nil {
		variant := strings.ReplaceAll(text, `"`, "")
		f.Variants[variant] = text
	}
}

type comparison int

const (
	equal comparison = iota
	different
	endless
	unstable
)

func compare(t *testing.T, flagd Flagd, key string, f Flag, caller map[string]any) comparison {
	t.Helper()
	for range 3 {
		before := time.Now().Unix()
		ours, err := evaluateOurs(key, f, caller, before)
		if err != nil {
			t.Fatalf("compile %s: %v", f.Targeting, err)
		}
		if ours.Error == overBudget {
			return endless
		}
		theirs := flagd.Evaluate(key, caller)
		if reflect.DeepEqual(ours, theirs) {
			return equal
		}
		if before != time.Now().Unix() {
			continue // $flagd.timestamp
		}
		for range 50 {
			if reflect.DeepEqual(ours, flagd.Evaluate(key, caller)) {
				return unstable
			}
		}
		break
	}
	return different
}

const overBudget = "over budget"

func evaluateOurs(key string, f Flag, caller map[string]any, at int64) (Answer, error) {
	evaluate, err := f.Definition(key).Evaluator()
	if err != nil {
		return Answer{}, err
	}
	r := evaluate(flags.Context(caller), nil, at)
	a := AnswerOf(r)
	if a.Metadata == nil {
		a.Metadata = map[string]any{}
	}
	if r.Message == "the rule takes too many steps with this context" {
		a.Error = overBudget
	}
	return a, nil
}

func reportDifference(t *testing.T, key string, f Flag, caller map[string]any) {
	t.Helper()
	differ := func(f Flag, caller map[string]any) bool {
		flagd, err := New(map[string]Flag{key: f})
		return err == nil && compare(t, flagd, key, f, caller) == different
	}
	f, caller = shrink(f, caller, differ)
	flagd, err := New(map[string]Flag{key: f})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := evaluateOurs(key, f, caller, time.Now().Unix())
	theirs := flagd.Evaluate(key, caller)
	text, _ := json.Marshal(f)
	about, _ := json.Marshal(caller)
	t.Errorf("flag    %s\ncontext %s\nours    %+v %v\nflagd   %+v", text, about, ours, err, theirs)
}
