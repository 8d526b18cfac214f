package main

import (
	"strings"
	"testing"
	"time"

	"coatcheck/trial/cluster"
	"coatcheck/trial/history"
	"coatcheck/trial/run"
)

func TestComplete(t *testing.T) {
	for name, tt := range map[string]struct {
		o        run.Options
		scenario string
		fault    string
	}{
		"nothing said":                    {run.Options{}, "", ""},
		"a scenario":                      {run.Options{}, "hidden", ""},
		"a target":                        {run.Options{Target: "http://shop", Command: "true"}, "", ""},
		"an unknown scenario":             {run.Options{}, "earthquake", "earthquake"},
		"a command for a shop of its own": {run.Options{Command: "true"}, "", "-target"},
		"a scenario for a target":         {run.Options{Target: "http://shop"}, "demo", "-target"},
		"a cluster":                       {run.Options{Target: "http://shop", Cluster: cluster.Options{Namespace: "shop"}}, "pods", ""},
		"a cluster without a namespace":   {run.Options{Target: "http://shop"}, "pods", "-namespace"},
		"a cluster without a target":      {run.Options{Cluster: cluster.Options{Namespace: "shop"}}, "pods", "-target"},
		"a namespace without a cluster":   {run.Options{Cluster: cluster.Options{Namespace: "shop"}}, "demo", "-namespace"},
		"two ways to make faults":         {run.Options{Target: "http://shop", Command: "true", Cluster: cluster.Options{Namespace: "shop"}}, "pods", "-fault-command"},
		"an unknown class":                {run.Options{Class: "harmless"}, "", "harmless"},
		"a negative rate":                 {run.Options{Rate: -1}, "", "-rate"},
		"a Prometheus for a target":       {run.Options{Target: "http://shop", Watch: "rules"}, "", "-watch"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.o.Class == "" {
				tt.o.Class = history.Gateway
			}
			err := complete(&tt.o, tt.scenario)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("%v, want a word of %s", err, tt.fault)
				}
				return
			}
			if err != nil || tt.o.Seed == 0 || tt.o.Rate == 0 || tt.o.Length < time.Minute || tt.o.Scenario.Name == "" || !strings.HasSuffix(tt.o.Dir, tt.o.Scenario.Name) {
				t.Errorf("%+v, %v", tt.o, err)
			}
		})
	}
}
