package solve

import (
	"slices"
)

// strength orders the reasons to install one package before another.
type strength uint8

const (
	plain strength = iota // Requires
	early                 // RequiresPre: scriptlets need it
)

// graph is who needs whom among the packages of a transaction.
type graph struct {
	nodes []lit
	edges map[lit]map[lit]strength
}

// order returns the packages so that each comes after what it requires. A
// cycle is broken where it hurts least, as rpm does: first the requirements
// that no scriptlet depends on are dropped, then the order of names decides.
func (a *answer) order(list []lit) []lit {
	list = slices.Clone(list)
	slices.SortFunc(list, func(x, y lit) int { return comparePackages(a.pkgs[x], a.pkgs[y]) })
	g := graph{nodes: list, edges: map[lit]map[lit]strength{}}
	in := map[lit]bool{}
	for _, v := range list {
		in[v] = true
	}
	for _, v := range list {
		g.edges[v] = map[lit]strength{}
		for _, text := range a.pkgs[v].Requires {
			a.addEdges(g, in, v, text, plain)
		}
		for _, text := range a.pkgs[v].RequiresPre {
			a.addEdges(g, in, v, text, early)
		}
	}
	return g.sorted(list, plain)
}

func (a *answer) addEdges(g graph, in map[lit]bool, v lit, text string, how strength) {
	r, err := a.parse(text)
	if err != nil {
		return
	}
	clauses, err := a.compile(r, false)
	if err != nil {
		return
	}
	for _, c := range clauses {
		for _, l := range c.lits {
			if l > systemVar && l != v && in[l] {
				g.edges[v][l] = max(g.edges[v][l], how)
			}
		}
	}
}

// sorted orders list by the edges that are at least as strong as floor.
func (g graph) sorted(list []lit, floor strength) []lit {
	var out []lit
	for _, component := range g.components(list, floor) {
		switch {
		case len(component) == 1:
			out = append(out, component[0])
		case floor < early:
			out = append(out, g.sorted(component, floor+1)...)
		default:
			out = append(out, component...)
		}
	}
	return out
}

// components returns the strongly connected components, those that are
// needed first (Tarjan 1972). Each is in the order of list.
func (g graph) components(list []lit, floor strength) [][]lit {
	position := map[lit]int{}
	for i, v := range list {
		position[v] = i
	}
	index, low := map[lit]int{}, map[lit]int{}
	onStack := map[lit]bool{}
	var stack []lit
	var out [][]lit
	var visit func(v lit)
	visit = func(v lit) {
		index[v], low[v] = len(index)+1, len(index)+1
		stack = append(stack, v)
		onStack[v] = true
		for _, w := range g.needed(v, floor, position) {
			switch {
			case index[w] == 0:
				visit(w)
				low[v] = min(low[v], low[w])
			case onStack[w]:
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		at := slices.Index(stack, v)
		component := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, w := range component {
			onStack[w] = false
		}
		slices.SortFunc(component, func(x, y lit) int { return position[x] - position[y] })
		out = append(out, component)
	}
	for _, v := range list {
		if index[v] == 0 {
			visit(v)
		}
	}
	return out
}

// needed returns what v needs within the list, in its order.
func (g graph) needed(v lit, floor strength, position map[lit]int) []lit {
	var out []lit
	for w, how := range g.edges[v] {
		if _, ok := position[w]; ok && how >= floor {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(x, y lit) int { return position[x] - position[y] })
	return out
}
