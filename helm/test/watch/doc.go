// Package watch tests what people look at: the chart's dashboards and alerts.
//
// A dashboard that names a metric which nobody exports looks like a quiet shop,
// and an alert on one never fires. So every expression is asked of a real
// Prometheus that watched a whole shop under load and faults, every alert is
// shown to fire and not to fire, and one of them on that shop.
package watch
