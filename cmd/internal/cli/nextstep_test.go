package cli

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
)

// A next step works when it is pasted: its commands have the flags that say where to act.
func TestNextStepsAreComplete(t *testing.T) {
	var given func(string) string
	tree := func() *cobra.Command {
		root := &cobra.Command{Use: "sluice"}
		root.PersistentFlags().String("repo", "", "")
		root.PersistentFlags().String("data", "", "")
		note := func(cmd *cobra.Command, _ []string) { given = NextSteps(cmd) }
		why := &cobra.Command{Use: "why", Run: note}
		why.Flags().String("server", "", "")
		release := &cobra.Command{Use: "release"}
		release.AddCommand(&cobra.Command{Use: "cut", Run: note})
		root.AddCommand(why, release, &cobra.Command{Use: "hold", Run: note},
			&cobra.Command{Use: "validate", Run: note})
		root.SetOut(io.Discard)
		return root
	}
	for _, c := range []struct {
		args       []string
		next, want string
	}{
		{[]string{"hold", "staging"}, "sluice why staging", "sluice why staging"},
		{[]string{"hold", "--repo", "r"}, "it waits; sluice why staging shows for what",
			"it waits; sluice why --repo r staging shows for what"},
		{[]string{"hold", "--repo", "my repo", "--data=d"}, "sluice release cut 1.0.0 --from DIR",
			"sluice release cut --data d --repo 'my repo' 1.0.0 --from DIR"},
		{[]string{"hold", "--repo", "r"}, "sluice release cut V --repo x; sluice hold a --lift",
			"sluice release cut V --repo x; sluice hold --repo r a --lift"},
		{[]string{"why", "--server", "unix:///s"}, "sluice why b, or sluice hold b",
			"sluice why --server unix:///s b, or sluice hold b"},
		{[]string{"hold", "--repo", "r"}, "sluice validate; is sluice serve running?",
			"sluice validate; is sluice serve running?"},
	} {
		root := tree()
		root.SetArgs(c.args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if got := given(c.next); got != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
