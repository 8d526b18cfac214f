package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"coatcheck/trial/rediscrash"
)

func crashFlags(set *flag.FlagSet) func(context.Context, []string) error {
	rounds := set.Int("rounds", 3, "crashes of each policy")
	writers := set.Int("writers", 16, "writers at once")
	length := set.Duration("length", 1500*time.Millisecond, "how long they write before a crash, and a little more each time")
	return func(ctx context.Context, _ []string) error { return crash(ctx, *rounds, *writers, *length) }
}

// crash prints what each policy lost. Always must lose nothing, and everysec
// must be seen to lose, or the first says nothing.
func crash(ctx context.Context, rounds, writers int, length time.Duration) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "appendfsync\tacknowledged\twritten B\tsynced B\tcut off B\tlost\tunanswered\tof these there\t")
	sum := map[string]rediscrash.Result{}
	for _, policy := range []string{rediscrash.Always, rediscrash.EverySec} {
		for i := range rounds {
			// Not always at the same time after a sync of everysec.
			r, err := rediscrash.Run(ctx, rediscrash.Options{Policy: policy, Writers: writers, Length: length + time.Duration(i)*370*time.Millisecond})
			if err != nil {
				return err
			}
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", policy, r.Acknowledged, r.Written, r.Synced, r.Written-r.Synced, r.Lost, r.Unanswered, r.Applied)
			s := sum[policy]
			s.Acknowledged, s.Lost = s.Acknowledged+r.Acknowledged, s.Lost+r.Lost
			sum[policy] = s
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	always, every := sum[rediscrash.Always], sum[rediscrash.EverySec]
	text := fmt.Sprintf("always lost %d of %d acknowledged changes, everysec %d of %d", always.Lost, always.Acknowledged, every.Lost, every.Acknowledged)
	switch {
	case always.Lost > 0 || always.Acknowledged == 0:
		fmt.Println("FAIL  " + text)
		return errFailed
	case every.Lost == 0:
		fmt.Println("FAIL INCONCLUSIVE  " + text + ": the harness has not shown that it can see loss")
		return errInconclusive
	}
	fmt.Println("PASS  " + text)
	return nil
}
