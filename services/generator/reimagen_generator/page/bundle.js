// Written from app.js and the modules that it imports by `python -m tools.page`. Edit those instead.
// Their digest: 6f485b799e3b4210bb7380e8c6d3c20c2f32b1991df8cf53ff23f4111afdc114
// vendor/htm-preact.js
var e;
var n;
var _;
var t;
var o;
var r;
var u;
var l = {};
var i = [];
var c = /acit|ex(?:s|g|n|p|$)|rph|grid|ows|mnc|ntw|ine[ch]|zoo|^ord|itera/i;
function s(e2, n2) {
  for (var _2 in n2) e2[_2] = n2[_2];
  return e2;
}
function f(e2) {
  var n2 = e2.parentNode;
  n2 && n2.removeChild(e2);
}
function a(n2, _2, t2) {
  var o2, r2, u2, l2 = {};
  for (u2 in _2) "key" == u2 ? o2 = _2[u2] : "ref" == u2 ? r2 = _2[u2] : l2[u2] = _2[u2];
  if (arguments.length > 2 && (l2.children = arguments.length > 3 ? e.call(arguments, 2) : t2), "function" == typeof n2 && null != n2.defaultProps) for (u2 in n2.defaultProps) void 0 === l2[u2] && (l2[u2] = n2.defaultProps[u2]);
  return p(n2, l2, o2, r2, null);
}
function p(e2, t2, o2, r2, u2) {
  var l2 = { type: e2, props: t2, key: o2, ref: r2, __k: null, __: null, __b: 0, __e: null, __d: void 0, __c: null, __h: null, constructor: void 0, __v: null == u2 ? ++_ : u2 };
  return null != n.vnode && n.vnode(l2), l2;
}
function h(e2) {
  return e2.children;
}
function d(e2, n2) {
  this.props = e2, this.context = n2;
}
function v(e2, n2) {
  if (null == n2) return e2.__ ? v(e2.__, e2.__.__k.indexOf(e2) + 1) : null;
  for (var _2; n2 < e2.__k.length; n2++) if (null != (_2 = e2.__k[n2]) && null != _2.__e) return _2.__e;
  return "function" == typeof e2.type ? v(e2) : null;
}
function y(e2) {
  var n2, _2;
  if (null != (e2 = e2.__) && null != e2.__c) {
    for (e2.__e = e2.__c.base = null, n2 = 0; n2 < e2.__k.length; n2++) if (null != (_2 = e2.__k[n2]) && null != _2.__e) {
      e2.__e = e2.__c.base = _2.__e;
      break;
    }
    return y(e2);
  }
}
function m(e2) {
  (!e2.__d && (e2.__d = true) && t.push(e2) && !g.__r++ || r !== n.debounceRendering) && ((r = n.debounceRendering) || o)(g);
}
function g() {
  for (var e2; g.__r = t.length; ) e2 = t.sort(function(e3, n2) {
    return e3.__v.__b - n2.__v.__b;
  }), t = [], e2.some(function(e3) {
    var n2, _2, t2, o2, r2, u2;
    e3.__d && (r2 = (o2 = (n2 = e3).__v).__e, (u2 = n2.__P) && (_2 = [], (t2 = s({}, o2)).__v = o2.__v + 1, P(u2, o2, t2, n2.__n, void 0 !== u2.ownerSVGElement, null != o2.__h ? [r2] : null, _2, null == r2 ? v(o2) : r2, o2.__h), D(_2, o2), o2.__e != r2 && y(o2)));
  });
}
function k(e2, n2, _2, t2, o2, r2, u2, c2, s2, f2) {
  var a2, d2, y2, m2, g2, k2, x2, H2 = t2 && t2.__k || i, E2 = H2.length;
  for (_2.__k = [], a2 = 0; a2 < n2.length; a2++) if (null != (m2 = _2.__k[a2] = null == (m2 = n2[a2]) || "boolean" == typeof m2 ? null : "string" == typeof m2 || "number" == typeof m2 || "bigint" == typeof m2 ? p(null, m2, null, null, m2) : Array.isArray(m2) ? p(h, { children: m2 }, null, null, null) : m2.__b > 0 ? p(m2.type, m2.props, m2.key, null, m2.__v) : m2)) {
    if (m2.__ = _2, m2.__b = _2.__b + 1, null === (y2 = H2[a2]) || y2 && m2.key == y2.key && m2.type === y2.type) H2[a2] = void 0;
    else for (d2 = 0; d2 < E2; d2++) {
      if ((y2 = H2[d2]) && m2.key == y2.key && m2.type === y2.type) {
        H2[d2] = void 0;
        break;
      }
      y2 = null;
    }
    P(e2, m2, y2 = y2 || l, o2, r2, u2, c2, s2, f2), g2 = m2.__e, (d2 = m2.ref) && y2.ref != d2 && (x2 || (x2 = []), y2.ref && x2.push(y2.ref, null, m2), x2.push(d2, m2.__c || g2, m2)), null != g2 ? (null == k2 && (k2 = g2), "function" == typeof m2.type && null != m2.__k && m2.__k === y2.__k ? m2.__d = s2 = b(m2, s2, e2) : s2 = C(e2, m2, y2, H2, g2, s2), f2 || "option" !== _2.type ? "function" == typeof _2.type && (_2.__d = s2) : e2.value = "") : s2 && y2.__e == s2 && s2.parentNode != e2 && (s2 = v(y2));
  }
  for (_2.__e = k2, a2 = E2; a2--; ) null != H2[a2] && ("function" == typeof _2.type && null != H2[a2].__e && H2[a2].__e == _2.__d && (_2.__d = v(t2, a2 + 1)), U(H2[a2], H2[a2]));
  if (x2) for (a2 = 0; a2 < x2.length; a2++) T(x2[a2], x2[++a2], x2[++a2]);
}
function b(e2, n2, _2) {
  var t2, o2;
  for (t2 = 0; t2 < e2.__k.length; t2++) (o2 = e2.__k[t2]) && (o2.__ = e2, n2 = "function" == typeof o2.type ? b(o2, n2, _2) : C(_2, o2, o2, e2.__k, o2.__e, n2));
  return n2;
}
function C(e2, n2, _2, t2, o2, r2) {
  var u2, l2, i2;
  if (void 0 !== n2.__d) u2 = n2.__d, n2.__d = void 0;
  else if (null == _2 || o2 != r2 || null == o2.parentNode) e: if (null == r2 || r2.parentNode !== e2) e2.appendChild(o2), u2 = null;
  else {
    for (l2 = r2, i2 = 0; (l2 = l2.nextSibling) && i2 < t2.length; i2 += 2) if (l2 == o2) break e;
    e2.insertBefore(o2, r2), u2 = r2;
  }
  return void 0 !== u2 ? u2 : o2.nextSibling;
}
function x(e2, n2, _2) {
  "-" === n2[0] ? e2.setProperty(n2, _2) : e2[n2] = null == _2 ? "" : "number" != typeof _2 || c.test(n2) ? _2 : _2 + "px";
}
function H(e2, n2, _2, t2, o2) {
  var r2;
  e: if ("style" === n2) if ("string" == typeof _2) e2.style.cssText = _2;
  else {
    if ("string" == typeof t2 && (e2.style.cssText = t2 = ""), t2) for (n2 in t2) _2 && n2 in _2 || x(e2.style, n2, "");
    if (_2) for (n2 in _2) t2 && _2[n2] === t2[n2] || x(e2.style, n2, _2[n2]);
  }
  else if ("o" === n2[0] && "n" === n2[1]) r2 = n2 !== (n2 = n2.replace(/Capture$/, "")), n2 = n2.toLowerCase() in e2 ? n2.toLowerCase().slice(2) : n2.slice(2), e2.l || (e2.l = {}), e2.l[n2 + r2] = _2, _2 ? t2 || e2.addEventListener(n2, r2 ? S : E, r2) : e2.removeEventListener(n2, r2 ? S : E, r2);
  else if ("dangerouslySetInnerHTML" !== n2) {
    if (o2) n2 = n2.replace(/xlink[H:h]/, "h").replace(/sName$/, "s");
    else if ("href" !== n2 && "list" !== n2 && "form" !== n2 && "tabIndex" !== n2 && "download" !== n2 && n2 in e2) try {
      e2[n2] = null == _2 ? "" : _2;
      break e;
    } catch (e3) {
    }
    "function" == typeof _2 || (null != _2 && (false !== _2 || "a" === n2[0] && "r" === n2[1]) ? e2.setAttribute(n2, _2) : e2.removeAttribute(n2));
  }
}
function E(e2) {
  this.l[e2.type + false](n.event ? n.event(e2) : e2);
}
function S(e2) {
  this.l[e2.type + true](n.event ? n.event(e2) : e2);
}
function P(e2, _2, t2, o2, r2, u2, l2, i2, c2) {
  var f2, a2, p2, v2, y2, m2, g2, b2, C2, x2, H2, E2 = _2.type;
  if (void 0 !== _2.constructor) return null;
  null != t2.__h && (c2 = t2.__h, i2 = _2.__e = t2.__e, _2.__h = null, u2 = [i2]), (f2 = n.__b) && f2(_2);
  try {
    e: if ("function" == typeof E2) {
      if (b2 = _2.props, C2 = (f2 = E2.contextType) && o2[f2.__c], x2 = f2 ? C2 ? C2.props.value : f2.__ : o2, t2.__c ? g2 = (a2 = _2.__c = t2.__c).__ = a2.__E : ("prototype" in E2 && E2.prototype.render ? _2.__c = a2 = new E2(b2, x2) : (_2.__c = a2 = new d(b2, x2), a2.constructor = E2, a2.render = A), C2 && C2.sub(a2), a2.props = b2, a2.state || (a2.state = {}), a2.context = x2, a2.__n = o2, p2 = a2.__d = true, a2.__h = []), null == a2.__s && (a2.__s = a2.state), null != E2.getDerivedStateFromProps && (a2.__s == a2.state && (a2.__s = s({}, a2.__s)), s(a2.__s, E2.getDerivedStateFromProps(b2, a2.__s))), v2 = a2.props, y2 = a2.state, p2) null == E2.getDerivedStateFromProps && null != a2.componentWillMount && a2.componentWillMount(), null != a2.componentDidMount && a2.__h.push(a2.componentDidMount);
      else {
        if (null == E2.getDerivedStateFromProps && b2 !== v2 && null != a2.componentWillReceiveProps && a2.componentWillReceiveProps(b2, x2), !a2.__e && null != a2.shouldComponentUpdate && false === a2.shouldComponentUpdate(b2, a2.__s, x2) || _2.__v === t2.__v) {
          a2.props = b2, a2.state = a2.__s, _2.__v !== t2.__v && (a2.__d = false), a2.__v = _2, _2.__e = t2.__e, _2.__k = t2.__k, _2.__k.forEach(function(e3) {
            e3 && (e3.__ = _2);
          }), a2.__h.length && l2.push(a2);
          break e;
        }
        null != a2.componentWillUpdate && a2.componentWillUpdate(b2, a2.__s, x2), null != a2.componentDidUpdate && a2.__h.push(function() {
          a2.componentDidUpdate(v2, y2, m2);
        });
      }
      a2.context = x2, a2.props = b2, a2.state = a2.__s, (f2 = n.__r) && f2(_2), a2.__d = false, a2.__v = _2, a2.__P = e2, f2 = a2.render(a2.props, a2.state, a2.context), a2.state = a2.__s, null != a2.getChildContext && (o2 = s(s({}, o2), a2.getChildContext())), p2 || null == a2.getSnapshotBeforeUpdate || (m2 = a2.getSnapshotBeforeUpdate(v2, y2)), H2 = null != f2 && f2.type === h && null == f2.key ? f2.props.children : f2, k(e2, Array.isArray(H2) ? H2 : [H2], _2, t2, o2, r2, u2, l2, i2, c2), a2.base = _2.__e, _2.__h = null, a2.__h.length && l2.push(a2), g2 && (a2.__E = a2.__ = null), a2.__e = false;
    } else null == u2 && _2.__v === t2.__v ? (_2.__k = t2.__k, _2.__e = t2.__e) : _2.__e = w(t2.__e, _2, t2, o2, r2, u2, l2, c2);
    (f2 = n.diffed) && f2(_2);
  } catch (e3) {
    _2.__v = null, (c2 || null != u2) && (_2.__e = i2, _2.__h = !!c2, u2[u2.indexOf(i2)] = null), n.__e(e3, _2, t2);
  }
}
function D(e2, _2) {
  n.__c && n.__c(_2, e2), e2.some(function(_3) {
    try {
      e2 = _3.__h, _3.__h = [], e2.some(function(e3) {
        e3.call(_3);
      });
    } catch (e3) {
      n.__e(e3, _3.__v);
    }
  });
}
function w(n2, _2, t2, o2, r2, u2, i2, c2) {
  var s2, a2, p2, h2 = t2.props, d2 = _2.props, y2 = _2.type, m2 = 0;
  if ("svg" === y2 && (r2 = true), null != u2) {
    for (; m2 < u2.length; m2++) if ((s2 = u2[m2]) && (s2 === n2 || (y2 ? s2.localName == y2 : 3 == s2.nodeType))) {
      n2 = s2, u2[m2] = null;
      break;
    }
  }
  if (null == n2) {
    if (null === y2) return document.createTextNode(d2);
    n2 = r2 ? document.createElementNS("http://www.w3.org/2000/svg", y2) : document.createElement(y2, d2.is && d2), u2 = null, c2 = false;
  }
  if (null === y2) h2 === d2 || c2 && n2.data === d2 || (n2.data = d2);
  else {
    if (u2 = u2 && e.call(n2.childNodes), a2 = (h2 = t2.props || l).dangerouslySetInnerHTML, p2 = d2.dangerouslySetInnerHTML, !c2) {
      if (null != u2) for (h2 = {}, m2 = 0; m2 < n2.attributes.length; m2++) h2[n2.attributes[m2].name] = n2.attributes[m2].value;
      (p2 || a2) && (p2 && (a2 && p2.__html == a2.__html || p2.__html === n2.innerHTML) || (n2.innerHTML = p2 && p2.__html || ""));
    }
    if ((function(e2, n3, _3, t3, o3) {
      var r3;
      for (r3 in _3) "children" === r3 || "key" === r3 || r3 in n3 || H(e2, r3, null, _3[r3], t3);
      for (r3 in n3) o3 && "function" != typeof n3[r3] || "children" === r3 || "key" === r3 || "value" === r3 || "checked" === r3 || _3[r3] === n3[r3] || H(e2, r3, n3[r3], _3[r3], t3);
    })(n2, d2, h2, r2, c2), p2) _2.__k = [];
    else if (m2 = _2.props.children, k(n2, Array.isArray(m2) ? m2 : [m2], _2, t2, o2, r2 && "foreignObject" !== y2, u2, i2, u2 ? u2[0] : t2.__k && v(t2, 0), c2), null != u2) for (m2 = u2.length; m2--; ) null != u2[m2] && f(u2[m2]);
    c2 || ("value" in d2 && void 0 !== (m2 = d2.value) && (m2 !== n2.value || "progress" === y2 && !m2) && H(n2, "value", m2, h2.value, false), "checked" in d2 && void 0 !== (m2 = d2.checked) && m2 !== n2.checked && H(n2, "checked", m2, h2.checked, false));
  }
  return n2;
}
function T(e2, _2, t2) {
  try {
    "function" == typeof e2 ? e2(_2) : e2.current = _2;
  } catch (e3) {
    n.__e(e3, t2);
  }
}
function U(e2, _2, t2) {
  var o2, r2;
  if (n.unmount && n.unmount(e2), (o2 = e2.ref) && (o2.current && o2.current !== e2.__e || T(o2, null, _2)), null != (o2 = e2.__c)) {
    if (o2.componentWillUnmount) try {
      o2.componentWillUnmount();
    } catch (e3) {
      n.__e(e3, _2);
    }
    o2.base = o2.__P = null;
  }
  if (o2 = e2.__k) for (r2 = 0; r2 < o2.length; r2++) o2[r2] && U(o2[r2], _2, "function" != typeof e2.type);
  t2 || null == e2.__e || f(e2.__e), e2.__e = e2.__d = void 0;
}
function A(e2, n2, _2) {
  return this.constructor(e2, _2);
}
function M(_2, t2, o2) {
  var r2, u2, i2;
  n.__ && n.__(_2, t2), u2 = (r2 = "function" == typeof o2) ? null : o2 && o2.__k || t2.__k, i2 = [], P(t2, _2 = (!r2 && o2 || t2).__k = a(h, null, [_2]), u2 || l, l, void 0 !== t2.ownerSVGElement, !r2 && o2 ? [o2] : u2 ? null : t2.firstChild ? e.call(t2.childNodes) : null, i2, !r2 && o2 ? o2 : u2 ? u2.__e : t2.firstChild, r2), D(i2, _2);
}
e = i.slice, n = { __e: function(e2, n2) {
  for (var _2, t2, o2; n2 = n2.__; ) if ((_2 = n2.__c) && !_2.__) try {
    if ((t2 = _2.constructor) && null != t2.getDerivedStateFromError && (_2.setState(t2.getDerivedStateFromError(e2)), o2 = _2.__d), null != _2.componentDidCatch && (_2.componentDidCatch(e2), o2 = _2.__d), o2) return _2.__E = _2;
  } catch (n3) {
    e2 = n3;
  }
  throw e2;
} }, _ = 0, d.prototype.setState = function(e2, n2) {
  var _2;
  _2 = null != this.__s && this.__s !== this.state ? this.__s : this.__s = s({}, this.state), "function" == typeof e2 && (e2 = e2(s({}, _2), this.props)), e2 && s(_2, e2), null != e2 && this.__v && (n2 && this.__h.push(n2), m(this));
}, d.prototype.forceUpdate = function(e2) {
  this.__v && (this.__e = true, e2 && this.__h.push(e2), m(this));
}, d.prototype.render = h, t = [], o = "function" == typeof Promise ? Promise.prototype.then.bind(Promise.resolve()) : setTimeout, g.__r = 0, u = 0;
var L;
var N;
var W;
var R = 0;
var I = [];
var O = n.__b;
var V = n.__r;
var q = n.diffed;
var B = n.__c;
var $ = n.unmount;
function j(e2, _2) {
  n.__h && n.__h(N, e2, R || _2), R = 0;
  var t2 = N.__H || (N.__H = { __: [], __h: [] });
  return e2 >= t2.__.length && t2.__.push({}), t2.__[e2];
}
function G(e2) {
  return R = 1, z(ie, e2);
}
function z(e2, n2, _2) {
  var t2 = j(L++, 2);
  return t2.t = e2, t2.__c || (t2.__ = [_2 ? _2(n2) : ie(void 0, n2), function(e3) {
    var n3 = t2.t(t2.__[0], e3);
    t2.__[0] !== n3 && (t2.__ = [n3, t2.__[1]], t2.__c.setState({}));
  }], t2.__c = N), t2.__;
}
function J(e2, _2) {
  var t2 = j(L++, 3);
  !n.__s && le(t2.__H, _2) && (t2.__ = e2, t2.__H = _2, N.__H.__h.push(t2));
}
function K(e2, _2) {
  var t2 = j(L++, 4);
  !n.__s && le(t2.__H, _2) && (t2.__ = e2, t2.__H = _2, N.__h.push(t2));
}
function Q(e2) {
  return R = 5, Y(function() {
    return { current: e2 };
  }, []);
}
function Y(e2, n2) {
  var _2 = j(L++, 7);
  return le(_2.__H, n2) && (_2.__ = e2(), _2.__H = n2, _2.__h = e2), _2.__;
}
function te() {
  I.forEach(function(e2) {
    if (e2.__P) try {
      e2.__H.__h.forEach(re), e2.__H.__h.forEach(ue), e2.__H.__h = [];
    } catch (_2) {
      e2.__H.__h = [], n.__e(_2, e2.__v);
    }
  }), I = [];
}
n.__b = function(e2) {
  N = null, O && O(e2);
}, n.__r = function(e2) {
  V && V(e2), L = 0;
  var n2 = (N = e2.__c).__H;
  n2 && (n2.__h.forEach(re), n2.__h.forEach(ue), n2.__h = []);
}, n.diffed = function(e2) {
  q && q(e2);
  var _2 = e2.__c;
  _2 && _2.__H && _2.__H.__h.length && (1 !== I.push(_2) && W === n.requestAnimationFrame || ((W = n.requestAnimationFrame) || function(e3) {
    var n2, _3 = function() {
      clearTimeout(t2), oe && cancelAnimationFrame(n2), setTimeout(e3);
    }, t2 = setTimeout(_3, 100);
    oe && (n2 = requestAnimationFrame(_3));
  })(te)), N = void 0;
}, n.__c = function(e2, _2) {
  _2.some(function(e3) {
    try {
      e3.__h.forEach(re), e3.__h = e3.__h.filter(function(e4) {
        return !e4.__ || ue(e4);
      });
    } catch (t2) {
      _2.some(function(e4) {
        e4.__h && (e4.__h = []);
      }), _2 = [], n.__e(t2, e3.__v);
    }
  }), B && B(e2, _2);
}, n.unmount = function(e2) {
  $ && $(e2);
  var _2 = e2.__c;
  if (_2 && _2.__H) try {
    _2.__H.__.forEach(re);
  } catch (e3) {
    n.__e(e3, _2.__v);
  }
};
var oe = "function" == typeof requestAnimationFrame;
function re(e2) {
  var n2 = N;
  "function" == typeof e2.__c && e2.__c(), N = n2;
}
function ue(e2) {
  var n2 = N;
  e2.__c = e2.__(), N = n2;
}
function le(e2, n2) {
  return !e2 || e2.length !== n2.length || n2.some(function(n3, _2) {
    return n3 !== e2[_2];
  });
}
function ie(e2, n2) {
  return "function" == typeof n2 ? n2(e2) : n2;
}
var ce = function(e2, n2, _2, t2) {
  var o2;
  n2[0] = 0;
  for (var r2 = 1; r2 < n2.length; r2++) {
    var u2 = n2[r2++], l2 = n2[r2] ? (n2[0] |= u2 ? 1 : 2, _2[n2[r2++]]) : n2[++r2];
    3 === u2 ? t2[0] = l2 : 4 === u2 ? t2[1] = Object.assign(t2[1] || {}, l2) : 5 === u2 ? (t2[1] = t2[1] || {})[n2[++r2]] = l2 : 6 === u2 ? t2[1][n2[++r2]] += l2 + "" : u2 ? (o2 = e2.apply(l2, ce(e2, l2, _2, ["", null])), t2.push(o2), l2[0] ? n2[0] |= 2 : (n2[r2 - 2] = 0, n2[r2] = o2)) : t2.push(l2);
  }
  return t2;
};
var se = /* @__PURE__ */ new Map();
var fe = function(e2) {
  var n2 = se.get(this);
  return n2 || (n2 = /* @__PURE__ */ new Map(), se.set(this, n2)), (n2 = ce(this, n2.get(e2) || (n2.set(e2, n2 = (function(e3) {
    for (var n3, _2, t2 = 1, o2 = "", r2 = "", u2 = [0], l2 = function(e4) {
      1 === t2 && (e4 || (o2 = o2.replace(/^\s*\n\s*|\s*\n\s*$/g, ""))) ? u2.push(0, e4, o2) : 3 === t2 && (e4 || o2) ? (u2.push(3, e4, o2), t2 = 2) : 2 === t2 && "..." === o2 && e4 ? u2.push(4, e4, 0) : 2 === t2 && o2 && !e4 ? u2.push(5, 0, true, o2) : t2 >= 5 && ((o2 || !e4 && 5 === t2) && (u2.push(t2, 0, o2, _2), t2 = 6), e4 && (u2.push(t2, e4, 0, _2), t2 = 6)), o2 = "";
    }, i2 = 0; i2 < e3.length; i2++) {
      i2 && (1 === t2 && l2(), l2(i2));
      for (var c2 = 0; c2 < e3[i2].length; c2++) n3 = e3[i2][c2], 1 === t2 ? "<" === n3 ? (l2(), u2 = [u2], t2 = 3) : o2 += n3 : 4 === t2 ? "--" === o2 && ">" === n3 ? (t2 = 1, o2 = "") : o2 = n3 + o2[0] : r2 ? n3 === r2 ? r2 = "" : o2 += n3 : '"' === n3 || "'" === n3 ? r2 = n3 : ">" === n3 ? (l2(), t2 = 1) : t2 && ("=" === n3 ? (t2 = 5, _2 = o2, o2 = "") : "/" === n3 && (t2 < 5 || ">" === e3[i2][c2 + 1]) ? (l2(), 3 === t2 && (u2 = u2[0]), t2 = u2, (u2 = u2[0]).push(2, 0, t2), t2 = 0) : " " === n3 || "	" === n3 || "\n" === n3 || "\r" === n3 ? (l2(), t2 = 2) : o2 += n3), 3 === t2 && "!--" === o2 && (t2 = 4, u2 = u2[0]);
    }
    return l2(), u2;
  })(e2)), n2), arguments, [])).length > 1 ? n2 : n2[0];
}.bind(a);

// data/database.js
var NAME = "reimagen";
var STORE = "drawings";
var MOST = 300;
var opening = null;
function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}
async function transact(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}
async function loadDrawings() {
  try {
    const found = await transact("readonly", (store) => store.getAll());
    found.sort((one, other) => other.created - one.created || other.order - one.order);
    for (const old of found.splice(MOST)) await removeDrawing(old.id);
    return found;
  } catch {
    return [];
  }
}
async function saveDrawing(drawing) {
  const { preview, connection, position, ...kept } = drawing;
  await transact("readwrite", (store) => store.put(kept)).catch(() => {
  });
}
var removeDrawing = (id) => transact("readwrite", (store) => store.delete(id)).catch(() => {
});
var removeAllDrawings = () => transact("readwrite", (store) => store.clear()).catch(() => {
});

// lib/store.js
function createStore(state) {
  const listeners = /* @__PURE__ */ new Set();
  return {
    get: () => state,
    /** Merge a change, or the result of a function of the state, into the state.
     * @param {Partial<T> | ((state: T) => Partial<T>)} change */
    set(change2) {
      state = { ...state, ...typeof change2 === "function" ? change2(state) : change2 };
      for (const listener of [...listeners]) listener();
    },
    /** Call a function after each change. Return a function that ends this.
     * @param {() => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    }
  };
}
function useStore(store) {
  const [, redraw] = z((count2) => count2 + 1, 0);
  const state = store.get();
  K(() => {
    if (store.get() !== state) redraw();
    return store.subscribe(redraw);
  }, [store]);
  return state;
}

// lib/notices.js
var SHOWN_MILLISECONDS = 9e3;
var notices = createStore({ shown: [], spoken: "" });
var last = 0;
function notify(text, kind = "note") {
  const id = ++last;
  notices.set(({ shown }) => ({ shown: [...shown.filter((one) => one.text !== text), { id, text, kind }] }));
  setTimeout(() => dismiss(id), SHOWN_MILLISECONDS);
}
var notifyError = (error) => notify(error instanceof Error ? error.message : String(error), "error");
var dismiss = (id) => notices.set(({ shown }) => ({ shown: shown.filter((one) => one.id !== id) }));
var announce = (spoken) => notices.set({ spoken });

// data/images.js
var LONGEST_SIDE = 1024;
var JPEG_QUALITY = 0.92;
var READABLE = "PNG, JPEG, WebP, GIF or AVIF";
async function prepareImage(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`This file is not an image that the browser can read. Use ${READABLE}.`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const type = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
  return new Promise(
    (resolve, reject) => canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("The image is too large.")), type, JPEG_QUALITY)
  );
}
function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
var fromBase64 = (base64, type) => new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type });
var imagesIn = (transfer) => [...transfer?.files ?? []].filter((file) => file.type.startsWith("image/"));
function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 6e4);
}

// data/preferences.js
var PREFIX = "reimagen.";
function read(storage, name) {
  try {
    return storage?.getItem(PREFIX + name) ?? null;
  } catch {
    return null;
  }
}
function write(storage, name, value) {
  try {
    if (value === null) storage?.removeItem(PREFIX + name);
    else storage?.setItem(PREFIX + name, value);
  } catch {
  }
}
function storageOf(name) {
  try {
    return window[name];
  } catch {
    return null;
  }
}
var lasting = storageOf("localStorage");
var passing = storageOf("sessionStorage");
var readTheme = () => read(lasting, "theme") ?? "system";
function chooseTheme(theme) {
  write(lasting, "theme", theme === "system" ? null : theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
var readKey = () => read(passing, "key") ?? read(lasting, "key");
function keepKey(key, onDevice = false) {
  write(passing, "key", onDevice ? null : key);
  write(lasting, "key", onDevice ? key : null);
}
function readDraft() {
  try {
    return JSON.parse(read(lasting, "draft") ?? "null");
  } catch {
    return null;
  }
}
var keepDraft = (draft2) => write(lasting, "draft", JSON.stringify(draft2));

// service/http.js
var session = createStore({ key: readKey(), asking: false, reason: "" });
var ServiceError = class extends Error {
  /** @param {number} status @param {string} message @param {string | null} field @param {number | null} retryAfter */
  constructor(status, message, field = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.field = field;
    this.retryAfter = retryAfter;
  }
};
function useKey(key, onDevice = false) {
  keepKey(key, onDevice);
  session.set({ key, asking: false, reason: "" });
}
async function send(path, { method, json, form, headers = {}, signal } = {}) {
  const { key } = session.get();
  const all = { ...headers };
  if (key) all.Authorization = `Bearer ${key}`;
  if (json !== void 0) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (json === void 0 && form === void 0 ? "GET" : "POST"),
      headers: all,
      body: json === void 0 ? form : JSON.stringify(json),
      signal
    });
  } catch (error2) {
    if (signal?.aborted) throw error2;
    throw new ServiceError(0, "The service does not answer. Check that it runs, and your connection to it.");
  }
  if (response.ok) return response;
  const error = await readError(response);
  if (response.status === 401) session.set({ asking: true, reason: key ? error.message : "" });
  throw error;
}
var sendForJson = async (path, options) => (await send(path, options)).json();
async function readError(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
  }
  const detail = problem.detail ?? `The service answers with status ${response.status}.`;
  const sentence2 = detail.charAt(0).toUpperCase() + detail.slice(1);
  const wait = retryAfter && response.status === 429 ? ` Try again in ${retryAfter} s.` : "";
  return new ServiceError(response.status, sentence2 + wait, problem.field ?? null, retryAfter);
}

// service/api.js
var segment = (id) => id.split("/").map(encodeURIComponent).join("/");
var pairImagePath = (id) => `v1/pairs/${segment(id)}/image`;
var readModel = async () => (await sendForJson("v1/models")).data[0];
var search = (body, signal) => sendForJson("v1/knowledge/search", { json: body, signal });
function listPairs({ limit = 24, after = null, order = "id" } = {}) {
  const query = new URLSearchParams({ limit: String(limit), order });
  if (after) query.set("after", after);
  return sendForJson(`v1/knowledge/pairs?${query}`);
}
var readPair = (id) => sendForJson(`v1/knowledge/pairs/${segment(id)}`);
var readPairImage = async (id) => (await send(pairImagePath(id))).blob();
async function addPair({ image, caption, source, license }) {
  const form = new FormData();
  form.append("image", image, "image");
  for (const [name, value] of Object.entries({ caption, source, license })) form.append(name, value);
  return (await sendForJson("v1/knowledge/pairs", { form })).ids[0];
}
var deletePair = (id) => sendForJson(`v1/knowledge/pairs/${segment(id)}`, { method: "DELETE" });
var createJob = (body, key) => sendForJson("v1/jobs", { json: body, headers: { "Idempotency-Key": key } });
var readJob = (id) => sendForJson(`v1/jobs/${encodeURIComponent(id)}`);
var cancelJob = (id) => sendForJson(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
var queuedJobs = async () => (await sendForJson("v1/jobs?status=queued&limit=100")).data;
var readJobImage = async (id) => (await send(`v1/jobs/${encodeURIComponent(id)}/images/0`)).blob();
var jobEventsPath = (id) => `v1/jobs/${encodeURIComponent(id)}/events`;
async function cutOut(reference2) {
  const { b64_json: base64, warning = "" } = await sendForJson("v1/images/cut-outs", { json: reference2 });
  return { image: base64 ? fromBase64(base64, "image/png") : null, warning };
}
function verify(file) {
  const form = new FormData();
  form.append("image", file, "image");
  return sendForJson("v1/verify", { form });
}

// model/composer.js
var DEFAULTS = {
  size: null,
  k: null,
  quality: "auto",
  steps: null,
  sampler: null,
  stages: null,
  strategy: null,
  seed: null,
  eta: null,
  textWeight: null,
  neighborWeight: null,
  perEntity: false,
  negativePrompt: ""
};
var NOT_SEARCHED = { status: "idle", message: "", nothing: null, nearest: [], refused: [] };
var draft = readDraft();
var composer = createStore({
  prompt: String(draft?.prompt ?? ""),
  settings: { ...DEFAULTS, ...draft?.settings },
  /** @type {Neighbor[]} */
  neighbors: [],
  /** Whether the visitor chose the neighbors, so that a search does not replace them. */
  chosen: false,
  found: NOT_SEARCHED,
  /** @type {{field: string, message: string} | null} */
  problem: null
});
composer.subscribe(() => {
  const { prompt, settings } = composer.get();
  keepDraft({ prompt, settings });
});
var changeSettings = (change2) => composer.set(({ settings }) => ({ settings: { ...settings, ...change2 }, problem: null }));
function snapshot() {
  const { prompt, settings, neighbors, chosen, found } = composer.get();
  return { prompt, settings, neighbors, chosen, refused: chosen ? [] : found.refused };
}
var restore = ({ prompt, settings, neighbors, chosen }) => composer.set({ prompt, neighbors, chosen, settings: { ...DEFAULTS, ...settings }, found: NOT_SEARCHED, problem: null });

// model/request.js
var PREVIEWS = 3;
async function buildRequest({ prompt, settings, neighbors, chosen }) {
  const guidance = {
    strategy: settings.strategy,
    text_weight: settings.textWeight,
    neighbor_weight: settings.neighborWeight,
    interleave_ratio: settings.eta
  };
  const isGuided = Object.values(guidance).some((value) => value !== null);
  return {
    prompt,
    seed: settings.seed,
    partial_images: PREVIEWS,
    ...settings.size && { size: `${settings.size}x${settings.size}` },
    // The service refuses both: quality is a factor of the default steps.
    ...settings.steps ? { steps: settings.steps } : settings.quality !== "auto" && { quality: settings.quality },
    ...settings.sampler && { sampler: settings.sampler },
    ...settings.stages && { stages: settings.stages },
    ...settings.negativePrompt && { negative_prompt: settings.negativePrompt },
    ...isGuided && { guidance },
    ...await grounding({ settings, neighbors, chosen })
  };
}
async function grounding({ settings, neighbors, chosen }) {
  if (chosen && settings.k !== 0 && neighbors.length > 0)
    return { references: await Promise.all(neighbors.map(reference)) };
  const k2 = settings.k === 0 || chosen ? 0 : settings.k;
  return { retrieval: { k: k2, ...settings.perEntity && { per_entity: true }, explain: true } };
}
async function reference({ weight, cutOut: cutOut2, ...neighbor }) {
  const used = { weight, ...cutOut2 && { cut_out: true } };
  if (neighbor.kind === "pair") return { pair_id: neighbor.id, ...used };
  return { image: await toBase64(neighbor.image), caption: neighbor.caption, ...used };
}
function settingsOf(request) {
  const { guidance = {}, retrieval = {} } = request;
  return {
    ...DEFAULTS,
    size: Number.parseInt(request.size, 10) || null,
    seed: request.seed ?? null,
    quality: request.quality ?? "auto",
    steps: request.steps ?? null,
    sampler: request.sampler ?? null,
    stages: request.stages?.length ? request.stages : null,
    k: retrieval?.k ?? null,
    strategy: guidance?.strategy ?? null,
    perEntity: retrieval?.per_entity ?? false,
    eta: guidance?.interleave_ratio ?? null,
    textWeight: guidance?.text_weight ?? null,
    neighborWeight: guidance?.neighbor_weight ?? null,
    negativePrompt: request.negative_prompt ?? ""
  };
}

// model/drawings.js
var SEEDS = 2 ** 32;
var ATTEMPTS = 3;
var drawings = createStore({
  /** Newest first. @type {Drawing[]} */
  all: [],
  loaded: false,
  /** The group that is shown large. @type {string | null} */
  shown: null,
  /** Whether a request is being sent. */
  sending: false
});
var isFinished = ({ status }) => !["queued", "running"].includes(status);
async function loadHistory() {
  const kept = await loadDrawings();
  drawings.set(({ all, shown }) => ({
    all: [...all, ...kept],
    loaded: true,
    shown: shown ?? kept.find((one) => !isFinished(one))?.group ?? kept[0]?.group ?? null
  }));
}
function groupsOf(all) {
  const groups = /* @__PURE__ */ new Map();
  for (const one of all) groups.set(one.group, [one, ...groups.get(one.group) ?? []]);
  return [...groups.values()].map((group) => group.sort((one, other) => one.order - other.order));
}
function changeDrawing(id, change2, keep = true) {
  drawings.set(({ all }) => ({ all: all.map((one) => one.id === id ? { ...one, ...change2 } : one) }));
  const changed = drawings.get().all.find((one) => one.id === id);
  if (keep && changed) saveDrawing(changed);
}
async function draw(title = "", variants = [{ label: "" }]) {
  const taken = snapshot();
  if (!taken.prompt.trim()) {
    composer.set({ problem: { field: "prompt", message: "Write what to draw first." } });
    return;
  }
  const unnamed = taken.chosen && taken.neighbors.some((one) => !one.caption.trim());
  if (unnamed) {
    composer.set({ problem: { field: "references", message: "Write what each of your images shows first." } });
    return;
  }
  drawings.set({ sending: true });
  composer.set({ problem: null });
  const seed = taken.settings.seed ?? Math.floor(Math.random() * SEEDS);
  const group = crypto.randomUUID();
  try {
    for (const [order, { label, settings }] of variants.entries()) {
      const own = { ...taken, settings: { ...taken.settings, seed, ...settings } };
      await create(own, { group, title, label, order });
    }
    announce(variants.length > 1 ? `${variants.length} images are in the queue.` : "The image is in the queue.");
  } catch (error) {
    composer.set({ problem: { field: error.field ?? "", message: error.message } });
  } finally {
    drawings.set({ sending: false });
  }
}
async function create(taken, { group, title, label, order }) {
  const job = await createWithRetries(await buildRequest(taken));
  const drawing = {
    ...{ id: job.id, group, title, label, order, created: Date.now(), status: job.status, seed: job.request.seed },
    ...{ size: Number.parseInt(job.request.size, 10) || null, position: job.position ?? null, taken },
    ...{ neighbors: null, nothing: null, image: null, error: "", progress: null }
  };
  drawings.set(({ all }) => ({ all: [drawing, ...all], shown: group }));
  await saveDrawing(drawing);
}
async function createWithRetries(body) {
  const key = crypto.randomUUID();
  for (let attempt = 1; ; attempt++) {
    try {
      return await createJob(body, key);
    } catch (error) {
      if (!(error instanceof ServiceError) || error.status !== 0 || attempt === ATTEMPTS) throw error;
    }
  }
}
async function cancelDrawing(id) {
  try {
    const job = await cancelJob(id);
    if (job.status === "cancelled") changeDrawing(id, { status: "cancelled" });
  } catch (error) {
    if (error.status !== 404) throw error;
    changeDrawing(id, { status: "cancelled" });
  }
  announce("Cancelled.");
}
function forgetGroup(group) {
  const { all, shown } = drawings.get();
  for (const one of all.filter((each) => each.group === group)) removeDrawing(one.id);
  const kept = all.filter((one) => one.group !== group);
  drawings.set({ all: kept, shown: shown === group ? kept[0]?.group ?? null : shown });
}
async function forgetAll() {
  const kept = drawings.get().all.filter((one) => !isFinished(one));
  await removeAllDrawings();
  for (const one of kept) await saveDrawing(one);
  drawings.set({ all: kept, shown: kept[0]?.group ?? null });
}

// model/examples.js
var PAIRS = 24;
var PROMPTS = 3;
var LONGEST = 40;
var SHORT_WORDS = 4;
var PLACES = ["in the snow", "on a beach", "in a forest", "at night", "on a mountain"];
var examples = createStore({
  /** @type {string[]} */
  prompts: [],
  /** @type {{id: string, caption: string}[]} */
  pairs: [],
  failed: false
});
async function loadExamples() {
  try {
    const { data } = await listPairs({ limit: PAIRS, order: "random" });
    const captions = [...new Map(data.map((pair) => [pair.caption, pair.caption])).values()];
    const short = captions.filter((caption) => caption.length <= LONGEST).slice(0, PROMPTS);
    examples.set({ prompts: short.map(scene), pairs: data, failed: short.length === 0 });
  } catch {
    examples.set({ failed: true });
  }
}
function scene(caption, number) {
  const words = caption.split(/\s+/);
  const isThing = words.length <= SHORT_WORDS && !/[.,;:]/.test(caption);
  return isThing ? `${caption} ${PLACES[number % PLACES.length]}` : caption;
}

// model/model.js
var RETRY = 3e3;
var model = createStore({
  /** @type {"reading" | "ready" | "down"} */
  status: "reading",
  name: "",
  /** @type {number[]} */
  sizes: [],
  defaultSize: 256,
  defaultK: 2,
  maximumK: 4,
  /** The stages of the cascade, as the service states them. @type {Stage[]} */
  stages: [],
  message: ""
});
async function loadModel() {
  try {
    const found = await readModel();
    const sizes = found.sizes.map((size) => Number.parseInt(size, 10));
    model.set({
      status: "ready",
      name: found.id,
      sizes,
      defaultSize: sizes.includes(256) ? 256 : Math.max(...sizes),
      defaultK: found.default_k,
      maximumK: found.maximum_k,
      stages: found.stages,
      message: ""
    });
  } catch (error) {
    model.set({ status: "down", message: error.message });
    if (error.status !== 401) setTimeout(loadModel, RETRY);
  }
}

// lib/format.js
var plural = (count2, one, many = `${one}s`) => `${count2.toLocaleString("en-US")} ${count2 === 1 ? one : many}`;
var slug = (text) => text.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "image";
function ago(milliseconds) {
  const minutes = Math.round((Date.now() - milliseconds) / 6e4);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${plural(minutes, "minute")} ago`;
  if (minutes < 24 * 60) return `${plural(Math.round(minutes / 60), "hour")} ago`;
  return new Date(milliseconds).toLocaleDateString(void 0, { dateStyle: "medium" });
}
var sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

// model/neighbors.js
var PAUSE = 250;
var RETRY2 = 4e3;
var NEAREST = 4;
var timer = 0;
var running = null;
var pairNeighbor = ({ id, caption, source = "", license = "", explanation, score, weight = 1 }) => ({
  key: `pair:${id}`,
  kind: "pair",
  id,
  caption,
  source,
  license,
  explanation,
  score,
  weight
});
function searchSoon(pause = PAUSE) {
  clearTimeout(timer);
  running?.abort();
  const { prompt, chosen, settings } = composer.get();
  if (chosen) return;
  if (!prompt.trim() || settings.k === 0) {
    composer.set({ neighbors: [], found: NOT_SEARCHED });
    return;
  }
  composer.set(({ found }) => ({ found: { ...found, status: found.status === "down" ? "down" : "searching" } }));
  timer = setTimeout(searchNow, pause);
}
async function searchNow() {
  const { signal } = running = new AbortController();
  const { prompt, settings, chosen } = composer.get();
  if (chosen) return;
  const isStale = () => signal.aborted || composer.get().chosen || composer.get().prompt !== prompt;
  const query = { query: prompt, explain: true, check_policy: true, ...settings.perEntity && { per_entity: true } };
  const k2 = settings.k ?? model.get().defaultK;
  if (k2 === 0) return;
  try {
    const answer = await search({ ...query, k: k2 }, signal);
    const nothing = answer.nothing_found ?? null;
    const nearest = nothing ? await findNearest(query, signal) : [];
    if (isStale()) return;
    const neighbors = answer.neighbors.filter(isAllowed).map(pairNeighbor);
    const refused = answer.neighbors.filter((pair) => !isAllowed(pair)).map(({ id, caption, refused: reason }) => ({ id, caption, reason }));
    composer.set({
      neighbors,
      found: { ...NOT_SEARCHED, status: nothing ? "nothing" : "found", nothing, nearest, refused }
    });
    const leftOut = refused.length > 0 ? ` ${plural(refused.length, "image")} left out.` : "";
    announce(nothing ? `No neighbors. ${nothing.reason}` : `${plural(neighbors.length, "neighbor")} found.${leftOut}`);
  } catch (error) {
    if (isStale()) return;
    const isDown = error.status === 0 || error.status === 503 && error.field !== "check_policy";
    composer.set({ neighbors: [], found: { ...NOT_SEARCHED, status: isDown ? "down" : "failed", message: error.message } });
    if (isDown) timer = setTimeout(searchNow, RETRY2);
  }
}
async function findNearest(query, signal) {
  const answer = await search({ ...query, per_entity: false, k: NEAREST, relevance: "any" }, signal);
  return answer.neighbors.filter(isAllowed);
}
var isAllowed = (pair) => pair.refused === void 0;
function forgetChoice() {
  composer.set({ chosen: false, neighbors: [] });
  searchSoon(0);
}
function choose(change2) {
  clearTimeout(timer);
  running?.abort();
  composer.set(({ neighbors, found }) => ({
    neighbors: change2(neighbors),
    chosen: true,
    found: { ...found, status: found.status === "searching" ? "idle" : found.status }
  }));
}
function removeNeighbor(key) {
  choose((all) => all.filter((one) => one.key !== key));
  announce("Neighbor removed.");
}
function moveNeighbor(key, by) {
  choose((all) => {
    const from = all.findIndex((one) => one.key === key);
    const to = Math.min(all.length - 1, Math.max(0, from + by));
    const moved = [...all];
    moved.splice(to, 0, ...moved.splice(from, 1));
    announce(`Neighbor ${to + 1} of ${all.length}.`);
    return moved;
  });
}
var changeNeighbor = (key, change2) => choose((all) => all.map((one) => one.key === key ? { ...one, ...change2 } : one));
async function toggleCutOut(neighbor) {
  const { key } = neighbor;
  if (neighbor.cutOut) return changeNeighbor(key, { cutOut: null });
  const cutting = { image: null, warning: "" };
  changeNeighbor(key, { cutOut: cutting });
  const isStale = () => composer.get().neighbors.find((one) => one.key === key)?.cutOut !== cutting;
  try {
    const found = await cutOut(await reference(neighbor));
    if (isStale()) return;
    changeNeighbor(key, { cutOut: found });
    announce(found.warning || "The object is cut out.");
  } catch (error) {
    if (isStale()) return;
    changeNeighbor(key, { cutOut: null });
    notifyError(error);
  }
}
function usePair(pair) {
  const added = pairNeighbor(pair);
  choose((all) => withinLimit([...all.filter((one) => one.key !== added.key), added]));
  announce(`${pair.caption} is a neighbor now.`);
}
async function useOwnImage(file, replaced = null) {
  try {
    const image = await prepareImage(file);
    const { neighbors, prompt } = composer.get();
    const before = neighbors.find((one) => one.key === replaced);
    const added = {
      key: `own:${crypto.randomUUID()}`,
      kind: (
        /** @type {const} */
        "own"
      ),
      image,
      caption: before?.caption ?? prompt.trim(),
      weight: before?.weight ?? 1
    };
    choose((all) => withinLimit(before ? all.map((one) => one.key === replaced ? added : one) : [...all, added]));
    announce("Your image is a neighbor now.");
  } catch (error) {
    notifyError(error);
  }
}
async function addToKnowledgeBase(own, { caption, source, license }) {
  const id = await addPair({ image: own.cutOut?.image ?? own.image, caption, source, license });
  const pair = pairNeighbor({ id, caption, source, license, weight: own.weight });
  choose((all) => all.map((one) => one.key === own.key ? pair : one));
  announce("The image is in the knowledge base.");
}
function withinLimit(neighbors) {
  return neighbors.slice(-Math.max(1, model.get().maximumK));
}

// service/stream.js
var FIRST_PAUSE = 500;
var LONGEST_PAUSE = 8e3;
var SILENCE = 4e4;
var LAST = /^(end|job\.(completed|failed|cancelled))$/;
var isPassing = (error) => !(error instanceof ServiceError) || [0, 429, 502, 503, 504].includes(error.status);
async function* follow(path, { signal, onConnection }) {
  let lastId = "";
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      for await (const event of connect(path, lastId, signal, onConnection)) {
        pause = FIRST_PAUSE;
        lastId = event.id || lastId;
        yield event;
        if (LAST.test(event.type)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isPassing(error)) throw error;
    }
    onConnection("broken");
    await sleep(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}
async function* connect(path, lastId, signal, onConnection) {
  const attempt = new AbortController();
  const stop2 = () => attempt.abort();
  signal.addEventListener("abort", stop2);
  let silence = setTimeout(stop2, SILENCE);
  try {
    const headers = { Accept: "text/event-stream", ...lastId && { "Last-Event-ID": lastId } };
    const response = await send(path, { headers, signal: attempt.signal });
    if (response.status === 204) {
      yield { id: lastId, type: "end", data: {} };
      return;
    }
    onConnection("open");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(stop2, SILENCE);
      const blocks = (text + value).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", stop2);
    attempt.abort();
  }
}
function parse(block) {
  const fields = { id: "", event: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return fields.data ? { id: fields.id, type: fields.event, data: JSON.parse(fields.data) } : null;
}
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer3);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve(void 0);
    };
    const timer3 = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}

// model/watcher.js
var STREAMS = 3;
var POSITIONS_EVERY = 1e3;
var PAUSE2 = 1e3;
var followed = /* @__PURE__ */ new Map();
var reading = false;
var timer2 = 0;
function startWatching() {
  drawings.subscribe(watch);
  session.subscribe(watch);
  document.addEventListener("visibilitychange", watch);
  watch();
}
function watch() {
  if (session.get().asking) return;
  const waiting = drawings.get().all.filter((one) => !isFinished(one));
  for (const [id, controller] of followed) {
    if (!waiting.some((one) => one.id === id)) {
      controller.abort();
      followed.delete(id);
    }
  }
  for (const one of waiting.reverse()) {
    if (followed.size >= STREAMS) break;
    if (!followed.has(one.id)) followOne(one.id);
  }
  if (!timer2 && waiting.some((one) => one.status === "queued") && !document.hidden)
    timer2 = setTimeout(readPositions, POSITIONS_EVERY);
}
async function readPositions() {
  timer2 = 0;
  if (reading) return;
  reading = true;
  try {
    const positions = new Map((await queuedJobs()).map((job) => [job.id, job.position]));
    for (const one of drawings.get().all) {
      const position = positions.get(one.id) ?? null;
      if (one.status === "queued" && position !== (one.position ?? null)) changeDrawing(one.id, { position }, false);
    }
  } catch {
  } finally {
    reading = false;
    watch();
  }
}
async function followOne(id) {
  const controller = new AbortController();
  followed.set(id, controller);
  const onConnection = (connection) => changeDrawing(id, { connection }, false);
  try {
    for await (const event of follow(jobEventsPath(id), { signal: controller.signal, onConnection })) apply(id, event);
    if (!controller.signal.aborted) await finish(id);
  } catch (error) {
    if (isPassing(error)) await new Promise((resolve) => setTimeout(resolve, PAUSE2));
    else if (error.status !== 401) changeDrawing(id, { status: "failed", error: reasonOf(error) });
  } finally {
    followed.delete(id);
    watch();
  }
}
var reasonOf = (error) => error.status === 404 ? "The service no longer has this image: finished jobs expire." : error.message;
function apply(id, { type, data }) {
  switch (type) {
    case "job.queued":
      changeDrawing(id, { status: "queued", progress: null, preview: void 0 }, false);
      break;
    case "job.running":
      changeDrawing(id, { status: "running", position: null });
      break;
    case "job.neighbors":
      changeDrawing(id, { neighbors: data.neighbors, nothing: data.nothing_found ?? null, refused: data.refused ?? [] });
      break;
    case "job.progress":
      changeDrawing(
        id,
        { progress: data, ...data.b64_json && { preview: `data:image/png;base64,${data.b64_json}` } },
        false
      );
      if (data.step === 1) announce(`Stage ${data.stage + 1}, ${data.size} pixels.`);
      break;
  }
}
async function finish(id) {
  const job = await readJob(id);
  if (job.status === "completed") {
    const image = await readJobImage(id);
    changeDrawing(id, { status: job.status, seed: job.data[0].seed, image, preview: void 0, progress: null });
    announce("The image is finished.");
  } else if (job.status === "failed" || job.status === "cancelled") {
    changeDrawing(id, { status: job.status, error: job.error?.message ?? "", preview: void 0 });
    announce(job.status === "failed" ? "Drawing failed." : "Drawing was cancelled.");
  }
}

// view/ui.js
var PATHS = {
  add: "M12 5v14M5 12h14",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7",
  close: "M6 6l12 12M18 6L6 18",
  database: "M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0zM4 6c0 4 16 4 16 0M4 12c0 4 16 4 16 0",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  key: "M14 10a4 4 0 1 0-3.5 4L13 16.5h2V19h2.5v-2.5L14 13z",
  left: "M14 6l-6 6 6 6",
  refresh: "M20 11a8 8 0 1 0-2.5 6.5M20 5v6h-6",
  right: "M10 6l6 6-6 6",
  scissors: "M6 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM6 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM20 4L8.1 15.9M14.5 14.5L20 20M8.1 8.1L12 12",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  swap: "M4 8h14l-3-3M20 16H6l3 3",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  upload: "M12 20V9M7 13l5-5 5 5M5 4h14"
};
var Icon = ({ name }) => fe`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
var IconButton = ({ icon, label, ...rest }) => fe`<button type="button" class="icon-button" aria-label=${label} title=${label} ...${rest}>
    <${Icon} name=${icon} />
  </button>`;
var Refused = ({ pairs }) => pairs.map(
  ({ id, caption, reason }) => fe`<p key=${id} class="hint refused">Left out: “${caption}” ${reason}.</p>`
);
function useBlobUrl(blob) {
  const [url, setUrl] = G("");
  K(() => {
    if (!blob) return setUrl("");
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}
function PairImage({ id, alt = "" }) {
  const { key } = useStore(session);
  const [blob, setBlob] = G(
    /** @type {Blob | null} */
    null
  );
  const [isMissing, setMissing] = G(false);
  J(() => {
    setMissing(false);
    setBlob(null);
    if (!key) return;
    let current = true;
    readPairImage(id).then(
      (image) => current && setBlob(image),
      () => current && setMissing(true)
    );
    return () => {
      current = false;
    };
  }, [id, key]);
  const url = useBlobUrl(blob);
  if (isMissing) return fe`<span class="missing-image">image not available</span>`;
  const source = key ? url : pairImagePath(id);
  return source && fe`<img src=${source} alt=${alt} loading="lazy" onError=${() => setMissing(true)} />`;
}
function BlobImage({ blob, alt = "", ...rest }) {
  const url = useBlobUrl(blob);
  return url && fe`<img src=${url} alt=${alt} ...${rest} />`;
}
function Dialog({ title, onClose, children }) {
  const element = Q(
    /** @type {HTMLDialogElement | null} */
    null
  );
  K(() => {
    element.current?.showModal();
  }, []);
  return fe`<dialog
    ref=${element}
    aria-labelledby="dialog-title"
    onClose=${onClose}
    onClick=${(event) => event.target === element.current && element.current.close()}
  >
    <div class="dialog-body">
      <div class="dialog-head">
        <h2 id="dialog-title">${title}</h2>
        <${IconButton} icon="close" label="Close" onClick=${() => element.current?.close()} />
      </div>
      ${children}
    </div>
  </dialog>`;
}
function FileButton({ onFile, label, icon = "upload", camera = false, className = "quiet", hideLabel = false }) {
  const input = Q(
    /** @type {HTMLInputElement | null} */
    null
  );
  const choose2 = () => {
    const file = input.current?.files?.[0];
    if (file) onFile(file);
    if (input.current) input.current.value = "";
  };
  return fe`<button
      type="button"
      class=${hideLabel ? "icon-button" : className}
      aria-label=${label}
      title=${hideLabel ? label : void 0}
      onClick=${() => input.current?.click()}
    >
      <${Icon} name=${icon} />${!hideLabel && label}
    </button>
    <input ref=${input} type="file" accept="image/*" capture=${camera ? "environment" : void 0} hidden
      aria-label=${label} tabindex="-1" onChange=${choose2} />`;
}
var Source = ({ source }) => /^https?:\/\//.test(source ?? "") ? fe`<a href=${source} rel="noreferrer noopener" target="_blank">${new URL(source).host}</a>` : fe`<span>${source || "unknown source"}</span>`;

// view/addPair.js
var LICENSES = ["CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "proprietary"];
function AddPairDialog({ own = null, onClose, onAdded }) {
  const [image, setImage] = G(
    /** @type {Blob | null} */
    own?.cutOut?.image ?? own?.image ?? null
  );
  const [problem, setProblem] = G("");
  const [isSending, setSending] = G(false);
  const choose2 = async (file) => {
    try {
      setImage(await prepareImage(file));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    if (!image) return setProblem("Choose an image first.");
    const fields = Object.fromEntries(new FormData(event.target));
    setSending(true);
    try {
      if (own) await addToKnowledgeBase(own, fields);
      else onAdded?.(await addPair({ image, ...fields }));
      notify("The image is in the knowledge base, and the next search finds it.");
      if (!own) searchSoon(0);
      onClose();
    } catch (error) {
      setProblem(error.message);
      announce(error.message);
      setSending(false);
    }
  };
  return fe`<${Dialog} title="Add to the knowledge base" onClose=${onClose}>
    <form class="stack" onSubmit=${submit}>
      <div class="add-image" onDragOver=${(event) => event.preventDefault()}
        onDrop=${(event) => {
    event.preventDefault();
    event.stopPropagation();
    dispatchEvent(new Event("drop-handled"));
    if (event.dataTransfer.files[0]) choose2(event.dataTransfer.files[0]);
  }}>
        ${image ? fe`<${BlobImage} blob=${image} alt="The image to add" />` : fe`<p class="hint">Drop an image here, or</p>`}
        ${!own && fe`<${FileButton} label=${image ? "Choose another image" : "Choose an image"} onFile=${choose2} />`}
      </div>
      <label>Caption<input name="caption" required maxlength="1000" value=${own?.caption ?? ""} placeholder="a red fox" />
        <span class="hint">What the image shows. Prompts that name it find it.</span></label>
      <label>Source<input name="source" maxlength="2000" placeholder="own photograph, or an address" /></label>
      <label>License<input name="license" maxlength="2000" list="licenses" placeholder="CC-BY-4.0" /></label>
      <datalist id="licenses">${LICENSES.map((name) => fe`<option value=${name} />`)}</datalist>
      <p class="hint">Everyone who uses this service can then find and draw from it. Location and camera data were removed.</p>
      ${problem && fe`<p class="problem" role="alert">${problem}</p>`}
      <div class="row end"><button class="primary" disabled=${isSending}>${isSending ? "Adding…" : "Add"}</button></div>
    </form>
  <//>`;
}

// view/neighborCard.js
var MOVED = "application/x-reimagen-neighbor";
function NeighborCard({ neighbor, number, count: count2 }) {
  const [isAdding, setAdding] = G(false);
  const [isTarget, setTarget] = G(false);
  const { key, caption, cutOut: cutOut2 } = neighbor;
  const isOwn = neighbor.kind === "own";
  const isCutting = cutOut2 && !cutOut2.image && !cutOut2.warning;
  const name = caption || `image ${number}`;
  const dragStart = (event) => {
    event.dataTransfer.setData(MOVED, key);
    event.dataTransfer.effectAllowed = "move";
  };
  const dragOver = (event) => {
    event.preventDefault();
    setTarget(true);
  };
  const drop = (event) => {
    setTarget(false);
    const moved = event.dataTransfer.getData(MOVED);
    const [file] = imagesIn(event.dataTransfer);
    if (!moved && !file) return;
    event.preventDefault();
    event.stopPropagation();
    dispatchEvent(new Event("drop-handled"));
    if (file) useOwnImage(file, key);
    else if (moved !== key) moveTo(moved, number);
  };
  return fe`<li class="neighbor ${isTarget ? "target" : ""}" draggable=${count2 > 1} onDragStart=${dragStart}
    onDragOver=${dragOver} onDragLeave=${() => setTarget(false)} onDrop=${drop}>
    <div class="neighbor-image">
      ${cutOut2?.image ? fe`<${BlobImage} blob=${cutOut2.image} alt=${`${name}, cut out`} />` : isOwn ? fe`<${BlobImage} blob=${neighbor.image} alt=${name} />` : fe`<${PairImage} id=${neighbor.id} alt=${name} />`}
      <span class="rank" aria-hidden="true">${number}</span>
      <${IconButton} icon="close" label=${`Remove ${name}`} onClick=${() => removeNeighbor(key)} />
    </div>
    <div class="neighbor-text">
      ${isOwn ? fe`<label class="visually-hidden" for=${key}>What your image shows</label>
            <input id=${key} value=${caption} maxlength="1000" placeholder="What it shows"
              onInput=${(event) => changeNeighbor(key, { caption: event.target.value })} />
            <span class="hint">your image</span>` : fe`<span class="caption">${caption}</span>
            <span class="hint"><${Source} source=${neighbor.source} /> · ${neighbor.license || "unknown license"}</span>
            <${Why} explanation=${neighbor.explanation} score=${neighbor.score} />`}
      <label class="weight">Weight <span class="value" aria-hidden="true">${neighbor.weight.toFixed(1)}</span>
        <input type="range" min="0" max="3" step="0.1" value=${neighbor.weight}
          onInput=${(event) => changeNeighbor(key, { weight: Number(event.target.value) })} /></label>
      ${cutOut2?.warning && fe`<span class="hint" role="status">${sentence(cutOut2.warning)}</span>`}
      <div class="neighbor-actions">
        <button type="button" class="text-button cut-out" aria-pressed=${Boolean(cutOut2)} onClick=${() => toggleCutOut(neighbor)}
          title="Use the object of the image without its background" aria-label=${`Cut ${name} out`}>
          <${Icon} name="scissors" />${isCutting ? "Cutting…" : "Cut out"}
        </button>
        ${count2 > 1 && fe`<${IconButton} icon="left" label=${`Move ${name} to the front`} disabled=${number === 1}
            onClick=${() => moveNeighbor(key, -1)} />
          <${IconButton} icon="right" label=${`Move ${name} to the back`} disabled=${number === count2}
            onClick=${() => moveNeighbor(key, 1)} />`}
        <${FileButton} icon="swap" hideLabel label=${`Replace ${name} with your own image`}
          onFile=${(file) => useOwnImage(file, key)} />
        ${isOwn && fe`<button type="button" class="text-button" onClick=${() => setAdding(true)}>
          <${Icon} name="database" />Add to base
        </button>`}
      </div>
    </div>
    ${isAdding && fe`<${AddPairDialog} own=${neighbor} onClose=${() => setAdding(false)} />`}
  </li>`;
}
function moveTo(key, number) {
  const items = [...document.querySelectorAll(".neighbor")];
  moveNeighbor(key, -items.length);
  moveNeighbor(key, number - 1);
}
function Why({ explanation, score }) {
  if (!explanation) return null;
  const { named = [], terms = [], cosine } = explanation;
  const summary2 = named.length > 0 ? `names “${named.join("”, “")}”` : terms.length > 0 ? "shares words" : "similar";
  const most = Math.max(...terms.map((term) => term.score), 1e-3);
  return fe`<details class="why">
    <summary>${summary2}</summary>
    ${terms.length > 0 && fe`<ul aria-label="Contributions to the score">
      ${terms.map(
    ({ term, score: share }) => fe`<li>
          <span>${term}</span><meter min="0" max=${most} value=${share} aria-label=${term}></meter><span>${share.toFixed(2)}</span>
        </li>`
  )}
    </ul>`}
    <p class="hint">Score ${score?.toFixed(2)}${cosine != null && ` · cosine ${cosine.toFixed(2)}`}</p>
  </details>`;
}

// view/neighbors.js
function Neighbors() {
  const { neighbors, chosen, found, prompt, settings } = useStore(composer);
  const isOff = settings.k === 0;
  return fe`<section class="neighbors-section" aria-labelledby="neighbors-title">
    <div class="section-head">
      <h2 id="neighbors-title">Neighbors</h2>
      <span class="hint">${isOff ? "off" : summary({ neighbors, chosen, found })}</span>
      ${chosen && !isOff && fe`<button type="button" class="text-button" onClick=${forgetChoice}>Search again</button>`}
    </div>
    ${isOff ? fe`<p class="hint">Only the prompt is used.
          <button type="button" class="text-button" onClick=${turnOn}>Use neighbors</button></p>` : fe`<ol class="neighbors">
            ${neighbors.map(
    (one, index) => fe`<${NeighborCard} key=${one.key} neighbor=${one} number=${index + 1} count=${neighbors.length} />`
  )}
          </ol>
          ${!chosen && fe`<${Refused} pairs=${found.refused} />`}
          <${Missing} found=${found} chosen=${chosen} prompt=${prompt} count=${neighbors.length} />
          <div class="own-image">
            <span class="hint">Your own image: drop or paste it, or</span>
            <${FileButton} label="Choose" onFile=${(file) => useOwnImage(file)} className="text-button" />
            <${FileButton} label="Photograph" icon="camera" camera onFile=${(file) => useOwnImage(file)}
              className="text-button" />
          </div>`}
  </section>`;
}
function turnOn() {
  changeSettings({ k: null });
  searchSoon(0);
}
function summary({ neighbors, chosen, found }) {
  if (chosen) return `${plural(neighbors.length, "image")}, chosen by you`;
  if (found.status === "searching") return "searching…";
  if (found.status === "found") {
    const leftOut = found.refused.length > 0 ? `, ${found.refused.length} left out` : "";
    return `${plural(neighbors.length + found.refused.length, "image")} that the prompt names${leftOut}`;
  }
  return "";
}
function Missing({ found, chosen, prompt, count: count2 }) {
  if (chosen) return null;
  if (found.status === "down")
    return fe`<div class="empty" role="status">
      <p><strong>The knowledge base does not answer.</strong> You can still draw from the prompt alone, or from your own
        images. This page tries again by itself.</p>
    </div>`;
  if (found.status === "failed") return fe`<p class="problem" role="alert">${found.message}</p>`;
  if (found.status === "nothing")
    return fe`<div class="empty">
      <p><strong>No neighbor.</strong> ${why(found.nothing)}</p>
      ${found.nearest.length > 0 && fe`<p class="hint">Nearest images. Choose one to use it anyway:</p>
        <ul class="candidates">
          ${found.nearest.map(
      (pair) => fe`<li key=${pair.id}>
              <button type="button" onClick=${() => usePair(pair)} aria-label=${`Use ${pair.caption}`}>
                <${PairImage} id=${pair.id} /><span>${pair.caption}</span>
              </button>
            </li>`
    )}
        </ul>`}
      <p class="hint">Without neighbors, the image is drawn from the prompt alone. You can also add what is missing to
        the${" "}<a href="#knowledge">knowledge base</a>.</p>
    </div>`;
  if (found.refused.length > 0)
    return found.status === "found" && count2 === 0 ? fe`<p class="hint">Without neighbors, the image is drawn from the prompt alone. You can add your own image.</p>` : null;
  if (!prompt.trim()) return fe`<p class="hint">The images that your prompt names appear here.</p>`;
  return null;
}
var why = ({ reason, nearest, lacking = [] }) => lacking.length > 0 && nearest ? `Nothing in the knowledge base shows “${lacking.join("”, “")}”. The nearest caption is “${nearest}”.` : sentence(reason);

// model/stages.js
var OF_ALL = { strategy: "strategy", text_weight: "textWeight", neighbor_weight: "neighborWeight", interleave_ratio: "eta" };
var changesOf = (settings, size) => settings.stages?.find((one) => one.size === size) ?? { size };
function inherited(settings, stage) {
  const guidance = Object.entries(stage.guidance).map(([name, value]) => [
    name,
    (stage.guided ? settings[OF_ALL[name]] : null) ?? value
  ]);
  return {
    steps: settings.steps ?? (settings.quality === "auto" ? stage.steps : null),
    sampler: settings.sampler ?? stage.sampler,
    guidance: Object.fromEntries(guidance)
  };
}
function changeStage(size, change2) {
  const { settings } = composer.get();
  const changed = without({ ...changesOf(settings, size), ...change2 });
  const others = (settings.stages ?? []).filter((one) => one.size !== size);
  const stages = [...others, ...Object.keys(changed).length > 1 ? [changed] : []];
  changeSettings({
    stages: stages.length > 0 ? stages.sort((one, other) => one.size - other.size) : null,
    // The service refuses both: quality is a factor of the default steps.
    ...change2.steps && { quality: "auto" }
  });
}
function changeGuidance(size, change2) {
  const alone = change2.strategy === "joint" ? { neighbor_weight: null, interleave_ratio: null } : {};
  const guidance = without({ ...changesOf(composer.get().settings, size).guidance, ...change2, ...alone });
  changeStage(size, { guidance: Object.keys(guidance).length > 0 ? guidance : null });
}
var without = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));

// view/stageSettings.js
var SAMPLERS = ["ddpm", "ddim", "dpm-solver++", "unipc"];
var STRATEGIES = ["interleaved", "weighted", "joint"];
function StageSettings() {
  const { settings } = useStore(composer);
  const { stages } = useStore(model);
  const [isOpen, setOpen] = G(false);
  const changed = settings.stages ?? [];
  if (stages.length === 0 && changed.length === 0) return null;
  return fe`<details class="stage-settings" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Single stages ${changed.length > 0 && fe`<span class="badge">${changed.length} changed</span>`}</summary>
    ${isOpen && fe`<${Stages} changed=${changed} />`}
  </details>`;
}
function Stages({ changed }) {
  const { settings } = useStore(composer);
  const { stages, defaultSize } = useStore(model);
  const unknown = changed.filter(({ size }) => !stages.some((stage) => stage.size === size)).map(({ size }) => `${size} px`);
  return fe`<p class="hint">The cascade draws a small image first, and enlarges it stage by stage. What you set here overrides
      the settings above.</p>
    ${stages.map(
    (stage) => fe`<${OneStage} key=${stage.size} stage=${stage} isDrawn=${stage.size <= (settings.size ?? defaultSize)} />`
  )}
    ${unknown.length > 0 && fe`<p class="problem">This cascade has no stage of ${unknown.join(", ")}. Reset the stages to draw.</p>`}
    <button type="button" class="text-button" disabled=${changed.length === 0} onClick=${() => changeSettings({ stages: null })}>
      Reset the stages
    </button>`;
}
function OneStage({ stage, isDrawn }) {
  const { settings } = useStore(composer);
  const { size, sees_neighbors: seesNeighbors } = stage;
  const { steps, sampler, guidance = {} } = changesOf(settings, size);
  const usual = inherited(settings, stage);
  const strategy = guidance.strategy ?? usual.guidance.strategy;
  const weight = (name, label, most = 100, step2 = 0.5) => fe`<${Field} label=${label} size=${size}>
    <input type="number" min="0" max=${most} step=${step2} inputmode="decimal" value=${guidance[name] ?? ""}
      placeholder=${usual.guidance[name]}
      onChange=${(event) => changeGuidance(size, { [name]: numberOf(event.target) })} />
  <//>`;
  return fe`<fieldset>
    <legend>${size} px${!isDrawn && fe`<span class="hint"> · not drawn at this size</span>`}</legend>
    <${Field} label="Steps" size=${size}>
      <input type="number" min="1" max="1000" inputmode="numeric" value=${steps ?? ""}
        placeholder=${usual.steps ?? `quality ${settings.quality}`}
        onChange=${(event) => changeStage(size, { steps: numberOf(event.target) })} />
    <//>
    <${Field} label="Sampler" size=${size}>
      <${Choice} value=${sampler} usual=${usual.sampler} values=${SAMPLERS}
        onChoice=${(value) => changeStage(size, { sampler: value })} />
    <//>
    ${seesNeighbors && fe`<${Field} label="Guidance" size=${size}>
      <${Choice} value=${guidance.strategy} usual=${usual.guidance.strategy} values=${STRATEGIES}
        onChoice=${(value) => changeGuidance(size, { strategy: value })} />
    <//>`}
    ${weight("text_weight", "Weight of the text")}
    ${seesNeighbors && strategy !== "joint" && weight("neighbor_weight", "Weight of the neighbors")}
    ${seesNeighbors && strategy === "interleaved" && weight("interleave_ratio", "Text share, η", 1, 0.05)}
  </fieldset>`;
}
var Field = ({ label, size, children }) => fe`<label>${label}<span class="visually-hidden"> at ${size} pixels</span>${children}</label>`;
var Choice = ({ value, usual, values, onChoice }) => fe`<select value=${value ?? ""} onChange=${(event) => onChoice(event.target.value || null)}>
    <option value="">Default (${usual})</option>
    ${values.map((name) => fe`<option value=${name}>${name}</option>`)}
  </select>`;
function numberOf(field) {
  if (field.value === "") return null;
  return Math.min(Number(field.max), Math.max(Number(field.min), Number(field.value)));
}

// view/settings.js
var RETRIEVAL = ["k", "perEntity"];
function change(name, value) {
  changeSettings({ [name]: value });
  if (RETRIEVAL.includes(name)) searchSoon(0);
}
var chooseStrategy = (strategy) => changeSettings(strategy === "joint" ? { strategy, eta: null, neighborWeight: null } : { strategy });
function Settings() {
  const { settings } = useStore(composer);
  const [isOpen, setOpen] = G(false);
  const changed = Object.keys(DEFAULTS).filter((name) => settings[name] !== DEFAULTS[name]).length;
  return fe`<details class="settings" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Settings ${changed > 0 && fe`<span class="badge">${changed} changed</span>`}</summary>
    ${isOpen && fe`<${Fields} isChanged=${changed > 0} />`}
  </details>`;
}
function Fields({ isChanged }) {
  const { settings } = useStore(composer);
  const { sizes, stages, defaultSize, defaultK, maximumK } = useStore(model);
  const usual = stages.find((stage) => stage.guided)?.guidance;
  const isJoint = settings.strategy === "joint";
  const reset = () => {
    changeSettings(DEFAULTS);
    searchSoon(0);
  };
  return fe`<div class="settings-grid">
      <label>Size<select value=${settings.size ?? ""} onChange=${(event) => change("size", Number(event.target.value) || null)}>
        <option value="">Default (${defaultSize} px)</option>
        ${sizes.map((size) => fe`<option value=${size}>${size} × ${size} px</option>`)}
      </select></label>
      <label>Steps<input type="number" min="1" max="1000" inputmode="numeric" value=${settings.steps ?? ""}
        placeholder=${settings.quality === "auto" ? "default" : `quality ${settings.quality}`}
        onChange=${(event) => change("steps", Number(event.target.value) || null)} /></label>
      <label>Sampler<select value=${settings.sampler ?? ""} onChange=${(event) => change("sampler", event.target.value || null)}>
        <option value="">Default</option>
        ${SAMPLERS.map((name) => fe`<option value=${name}>${name}</option>`)}
      </select></label>
      <label>Guidance<select value=${settings.strategy ?? ""} onChange=${(event) => chooseStrategy(event.target.value || null)}>
        <option value="">Default</option>
        ${STRATEGIES.map((name) => fe`<option value=${name}>${name}</option>`)}
      </select></label>
      <label>Seed
        <span class="with-button">
          <input type="number" min="0" max="4294967295" inputmode="numeric" placeholder="random" value=${settings.seed ?? ""}
            onInput=${(event) => change("seed", event.target.value === "" ? null : Number(event.target.value))} />
          <${IconButton} icon="refresh" label="Random seed" disabled=${settings.seed === null}
            onClick=${() => change("seed", null)} />
        </span></label>
      <label class="check"><input type="checkbox" checked=${settings.perEntity}
        onChange=${(event) => change("perEntity", event.target.checked)} /> Neighbors for each thing in the prompt</label>
      <${Slider} name="k" label="Neighbors, k" value=${settings.k} fallback=${defaultK} max=${maximumK} step=${1} />
      ${!isJoint && fe`<${Slider} name="eta" label="Text share, η" value=${settings.eta} fallback=${usual?.interleave_ratio ?? 0.5} max=${1} step=${0.05}
        hint="Share of the steps that follow the text instead of the neighbors." />`}
      <${Slider} name="textWeight" label="Weight of the text" value=${settings.textWeight}
        fallback=${usual?.text_weight ?? 2} max=${10} step=${0.5} />
      ${!isJoint && fe`<${Slider} name="neighborWeight" label="Weight of the neighbors" value=${settings.neighborWeight}
        fallback=${usual?.neighbor_weight ?? 2} max=${10} step=${0.5} />`}
      <label class="wide">Negative prompt<input maxlength="1000" value=${settings.negativePrompt}
        placeholder="what must not appear" onInput=${(event) => change("negativePrompt", event.target.value)} /></label>
    </div>
    <${StageSettings} />
    <button type="button" class="text-button" disabled=${!isChanged} onClick=${reset}>Reset all settings</button>`;
}
function Slider({ name, label, value, fallback, max, step: step2, hint = "" }) {
  const isDefault = value === null;
  return fe`<div class="slider ${isDefault ? "default" : ""}">
    <label for=${`setting-${name}`}>${label}</label>
    <output>${isDefault ? "default" : value}</output>
    <input id=${`setting-${name}`} type="range" min="0" max=${max} step=${step2} value=${value ?? fallback}
      aria-valuetext=${isDefault ? "default" : String(value)} aria-describedby=${hint ? `hint-${name}` : void 0}
      onInput=${(event) => change(name, Number(event.target.value))} />
    <${IconButton} icon="refresh" label=${`${label}: default`} disabled=${isDefault} onClick=${() => change(name, null)} />
    ${hint && fe`<span class="hint" id=${`hint-${name}`}>${hint}</span>`}
  </div>`;
}

// view/compose.js
var RATIOS = [0, 0.25, 0.5, 0.75, 1];
var SEEDS2 = 2 ** 32;
var GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");
function write2(prompt) {
  composer.set({ prompt, problem: null });
  searchSoon();
}
function Compose() {
  const { prompt, problem, neighbors, settings, chosen, found } = useStore(composer);
  const { sending } = useStore(drawings);
  const { status, defaultK, maximumK } = useStore(model);
  const { prompts, failed } = useStore(examples);
  const text = Q(
    /** @type {HTMLTextAreaElement | null} */
    null
  );
  K(() => {
    if (!text.current || GROWS_BY_ITSELF) return;
    text.current.style.height = "auto";
    text.current.style.height = `${text.current.scrollHeight}px`;
  }, [prompt]);
  J(() => {
    if (problem?.field === "prompt") text.current?.focus();
  }, [problem]);
  const isUnreachable = !chosen && ["down", "failed"].includes(found.status);
  const isNothingLeft = found.status === "nothing" || found.refused.length > 0;
  const isBare = neighbors.length === 0 && (chosen || isUnreachable || isNothingLeft);
  const submit = (event) => {
    event.preventDefault();
    show();
    draw("", [{ label: "", settings: isUnreachable ? { k: 0 } : {} }]);
  };
  const keyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  };
  const canRetrieve = maximumK > 0;
  return fe`<form class="compose card" onSubmit=${submit} onKeyDown=${keyDown} aria-label="Draw">
    <div class="prompt">
      <label for="prompt">What should it show?</label>
      <textarea id="prompt" ref=${text} rows="1" maxlength="1000" value=${prompt} aria-describedby="prompt-problem"
        aria-invalid=${problem?.field === "prompt"} placeholder=${prompts[0] ?? "a red fox in the snow"}
        onInput=${(event) => write2(event.target.value)}></textarea>
    </div>
    ${!prompt.trim() && !failed && canRetrieve && fe`<div class="examples" role="group" aria-label="Examples from the knowledge base">
      ${prompts.map(
    (example) => fe`<button key=${example} type="button" class="chip" onClick=${() => write2(example)}>${example}</button>`
  )}
      <${IconButton} icon="refresh" label="Other examples" onClick=${loadExamples} />
    </div>`}
    ${canRetrieve && fe`<${Neighbors} />`}
    <${Settings} />
    <p id="prompt-problem" class=${problem ? "problem" : "visually-hidden"} role="alert">${problem?.message ?? ""}</p>
    <div class="actions">
      <button class="primary large" disabled=${sending || status !== "ready"}>
        ${sending ? "Sending…" : isBare && canRetrieve ? "Draw without neighbors" : "Draw"}
      </button>
      ${canRetrieve && fe`<div class="compare" role="group" aria-label="Compare">
        <span class="hint">Compare</span>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("With and without neighbors", withAndWithout(settings, defaultK))}>
          with / without
        </button>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("From neighbors to text", ratios(settings))}>η strip</button>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("Four seeds", fourSeeds(settings))}>four seeds</button>
      </div>`}
    </div>
  </form>`;
}
function compare(title, variants) {
  show();
  draw(title, variants);
}
function show() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (matchMedia("(max-width: 60rem)").matches)
    document.getElementById("stage")?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}
function withAndWithout({ k: k2 }, defaultK) {
  const own = k2 === 0 ? Math.max(1, defaultK) : k2;
  return [
    { label: "with neighbors", settings: { k: own } },
    { label: "without neighbors", settings: { k: 0 } }
  ];
}
var ratios = ({ strategy }) => RATIOS.map((eta) => ({ label: `η = ${eta}`, settings: { eta, ...strategy && { strategy: "interleaved" } } }));
function fourSeeds({ seed }) {
  const first = seed ?? Math.floor(Math.random() * SEEDS2);
  return [0, 1, 2, 3].map((number) => {
    const own = (first + number) % SEEDS2;
    return { label: `seed ${own}`, settings: { seed: own } };
  });
}

// data/exif.js
var EXIF_FOLDER = 34665;
var USER_COMMENT = 37510;
var CHARACTER_SET_BYTES = 8;
var ENTRY_BYTES = 12;
var INLINE_BYTES = 4;
function userComment(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const little = view.getUint16(0) === 18761;
    const folder = find(view, view.getUint32(4, little), EXIF_FOLDER, little);
    if (folder === null) return null;
    const comment = find(view, view.getUint32(folder + 8, little), USER_COMMENT, little);
    if (comment === null) return null;
    const length = view.getUint32(comment + 4, little);
    const start = length <= INLINE_BYTES ? comment + 8 : view.getUint32(comment + 8, little);
    return new TextDecoder().decode(bytes.subarray(start + CHARACTER_SET_BYTES, start + length));
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
function find(view, folder, tag, little) {
  const count2 = view.getUint16(folder, little);
  for (let number = 0; number < count2; number++) {
    const entry = folder + 2 + number * ENTRY_BYTES;
    if (view.getUint16(entry, little) === tag) return entry;
  }
  return null;
}

// data/provenance.js
var KEYWORD = "reimagen";
var TEXT = new TextDecoder();
var LATIN = new TextDecoder("latin1");
async function readProvenance(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const text = fromPng(bytes) ?? fromJpeg(bytes) ?? fromWebp(bytes);
  if (!text) return null;
  try {
    const provenance = JSON.parse(text);
    return typeof provenance.prompt === "string" && Array.isArray(provenance.neighbors) ? provenance : null;
  } catch {
    return null;
  }
}
function fromPng(bytes) {
  if (LATIN.decode(bytes.subarray(1, 4)) !== "PNG") return null;
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const content = bytes.subarray(at + 8, at + 8 + length);
    const type = LATIN.decode(bytes.subarray(at + 4, at + 8));
    if (type === "iTXt" && LATIN.decode(content.subarray(0, KEYWORD.length + 1)) === `${KEYWORD}\0`) {
      const language = content.indexOf(0, KEYWORD.length + 3);
      const translated = content.indexOf(0, language + 1);
      return TEXT.decode(content.subarray(translated + 1));
    }
    at += length + 12;
  }
  return null;
}
function fromJpeg(bytes) {
  if (bytes[0] !== 255 || bytes[1] !== 216) return null;
  const view = new DataView(bytes.buffer);
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 255; at += 2 + view.getUint16(at + 2)) {
    if (bytes[at + 1] === 218) return null;
    if (bytes[at + 1] === 225 && LATIN.decode(bytes.subarray(at + 4, at + 8)) === "Exif")
      return userComment(bytes.subarray(at + 10, at + 2 + view.getUint16(at + 2)));
  }
  return null;
}
function fromWebp(bytes) {
  if (LATIN.decode(bytes.subarray(8, 12)) !== "WEBP") return null;
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    if (LATIN.decode(bytes.subarray(at, at + 4)) === "EXIF") {
      const start = LATIN.decode(bytes.subarray(at + 8, at + 12)) === "Exif" ? at + 14 : at + 8;
      return userComment(bytes.subarray(start, at + 8 + length));
    }
    at += 8 + length + length % 2;
  }
  return null;
}

// model/restoring.js
async function restoreFrom(file) {
  const found = await fromService(file) ?? await fromFile(file);
  if (!found) return null;
  const same = drawings.get().all.find(({ seed, taken }) => seed === found.settings.seed && taken.prompt === found.prompt && hasNeighbors(taken));
  if (same && found.neighbors.some((one) => !one.id)) {
    restore({ ...same.taken, settings: { ...found.settings, k: same.taken.settings.k } });
    return `${found.origin} Prompt, seed, neighbors and settings are restored.`;
  }
  const pairs = await Promise.all(found.neighbors.filter((one) => one.id).map(stillThere));
  const neighbors = pairs.filter((one) => one !== null);
  const isGrounded = found.neighbors.length > 0;
  restore({
    prompt: found.prompt,
    settings: { ...found.settings, k: isGrounded ? null : 0 },
    neighbors,
    chosen: isGrounded
  });
  const lost = found.neighbors.length - neighbors.length;
  const rest = lost === 0 ? "Prompt, seed, neighbors and settings are restored." : `Prompt, seed and settings are restored. ${lost} of ${found.neighbors.length} neighbors cannot be: they are no longer in the knowledge base, or were someone's own images.`;
  return `${found.origin} ${rest}`;
}
var hasNeighbors = ({ chosen, settings }) => chosen && settings.k !== 0;
async function fromService(file) {
  try {
    const { generation, signature, tampered } = await verify(file);
    if (!generation) return null;
    const signed = signature.status === "trusted" ? ` Its signature is valid${signature.signer ? ` (${signature.signer})` : ""}.` : "";
    const changed = tampered ? " It was changed after it was drawn." : "";
    return {
      prompt: generation.prompt,
      settings: settingsOf(generation.request),
      neighbors: generation.neighbors,
      origin: `Drawn by ${generation.model}.${signed}${changed}`
    };
  } catch {
    return null;
  }
}
async function fromFile(file) {
  const provenance = await readProvenance(file);
  if (!provenance) return null;
  const { prompt, seed, size, guidance, quality, settings, neighbors, cascade } = provenance;
  return {
    prompt,
    settings: settingsOf({ ...settings, size: String(size), seed, guidance, quality }),
    neighbors,
    origin: `Drawn by ${cascade}.`
  };
}
async function stillThere({ id, weight, cut_out: isCutOut }) {
  try {
    const neighbor = pairNeighbor({ ...await readPair(id), weight });
    return isCutOut ? { ...neighbor, cutOut: await cutOut({ pair_id: id }) } : neighbor;
  } catch {
    return null;
  }
}

// view/dropZone.js
async function take(files) {
  location.hash = "#draw";
  for (const file of files) {
    try {
      const restored = await restoreFrom(file);
      if (restored) notify(restored);
      else await useOwnImage(file);
    } catch (error) {
      notifyError(error);
    }
  }
}
function DropZone() {
  const [isOver, setOver] = G(false);
  J(() => {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const over = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event) => {
      setOver(false);
      if (event.defaultPrevented || !hasFiles(event)) return;
      event.preventDefault();
      const files = imagesIn(event.dataTransfer);
      if (files.length > 0) take(files);
      else notify("Only image files can be dropped here.", "error");
    };
    const paste = (event) => {
      const files = imagesIn(event.clipboardData);
      if (files.length === 0) return;
      event.preventDefault();
      take(files);
    };
    const handled = () => setOver(false);
    const listeners = { dragover: over, dragleave: leave, drop, paste, "drop-handled": handled };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, []);
  return fe`<div class="drop-hint" hidden=${!isOver} aria-hidden="true">
    <p><${Icon} name="upload" />Drop it: an image drawn here restores its settings, any other becomes a neighbor. On a
      neighbor, it takes its place.</p>
  </div>`;
}

// view/header.js
var THEMES = ["system", "light", "dark"];
function Header({ view }) {
  const { status, name } = useStore(model);
  const { key } = useStore(session);
  const [theme, setTheme] = G(readTheme());
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const change2 = () => {
    chooseTheme(next);
    setTheme(next);
  };
  return fe`<header class="top">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <a class="brand" href="#draw">
      <span class="mark" aria-hidden="true"><i></i><i></i></span>Re-Imagen
    </a>
    <nav aria-label="Views">
      <a href="#draw" aria-current=${view === "draw" ? "page" : void 0}>Draw</a>
      <a href="#knowledge" aria-current=${view === "knowledge" ? "page" : void 0}>
        <span class="wide-only">Knowledge base</span><span class="narrow-only">Base</span>
      </a>
    </nav>
    <div class="tools">
      ${status === "ready" && fe`<span class="cascade wide-only" title="Loaded cascade">${name}</span>`}
      <a class="wide-only" href="docs">API</a>
      ${key && fe`<${IconButton} icon="key" label="Change the API key" onClick=${() => session.set({ asking: true })} />`}
      <button type="button" class="icon-button" onClick=${change2} title=${`Theme: ${theme}`}
        aria-label=${`Theme: ${theme}. Change to ${next}`}>
        <${Icon} name="theme" />
      </button>
    </div>
  </header>`;
}
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

// view/history.js
var show2 = (group) => drawings.set({ shown: group });
function Queue() {
  const waiting = useStore(drawings).all.filter((one) => !isFinished(one)).reverse();
  if (waiting.length === 0) return null;
  const cancelAll = () => Promise.all(waiting.map((one) => cancelDrawing(one.id))).catch(notifyError);
  return fe`<section class="queue card" aria-labelledby="queue-title">
    <div class="section-head">
      <h2 id="queue-title">Queue</h2><span class="hint">${plural(waiting.length, "image")}</span>
      ${waiting.length > 1 && fe`<button type="button" class="text-button" onClick=${cancelAll}>Cancel all</button>`}
    </div>
    <ol>
      ${waiting.map(
    (one) => fe`<li key=${one.id}>
          <span class="place">${one.status === "running" ? "now" : one.position ?? "…"}</span>
          <button type="button" class="text-button title" onClick=${() => show2(one.group)}>
            ${one.taken.prompt}${one.label && ` · ${one.label}`}
          </button>
          <${IconButton} icon="close" label=${`Cancel ${one.taken.prompt} ${one.label}`}
            onClick=${() => cancelDrawing(one.id).catch(notifyError)} />
        </li>`
  )}
    </ol>
  </section>`;
}
function History() {
  const { all, shown, loaded } = useStore(drawings);
  const [isAsking, setAsking] = G(false);
  const groups = groupsOf(all).filter((group) => group.every(isFinished));
  if (!loaded || groups.length === 0) return null;
  return fe`<section class="history" aria-labelledby="history-title">
    <div class="section-head">
      <h2 id="history-title">History</h2><span class="hint">kept in this browser</span>
      <button type="button" class="text-button" onClick=${() => setAsking(true)}>Clear</button>
    </div>
    <ul>
      ${groups.map((group) => fe`<${Entry} key=${group[0].group} group=${group} isShown=${group[0].group === shown} />`)}
    </ul>
    ${isAsking && fe`<${Dialog} title="Clear the history?" onClose=${() => setAsking(false)}>
      <p>All images are removed from this browser. Download those that you want to keep.</p>
      <div class="row end">
        <button type="button" class="danger" onClick=${() => {
    forgetAll();
    setAsking(false);
  }}>Clear the history</button>
      </div>
    <//>`}
  </section>`;
}
function Entry({ group, isShown }) {
  const [first] = group;
  const images = group.filter((one) => one.image).slice(0, 4);
  const name = [first.taken.prompt, first.title].filter(Boolean).join(", ");
  return fe`<li class="entry">
    <button type="button" class="thumbs count-${Math.max(1, images.length)}" aria-current=${isShown ? "true" : void 0}
      aria-label=${`Show ${name}, ${ago(first.created)}`} title=${name} onClick=${() => show2(first.group)}>
      ${images.map((one) => fe`<${BlobImage} key=${one.id} blob=${one.image} />`)}
      ${images.length === 0 && fe`<span class="hint">${first.status}</span>`}
    </button>
    <${IconButton} icon="close" label=${`Remove ${name} from the history`} onClick=${() => forgetGroup(first.group)} />
  </li>`;
}

// view/knowledge.js
var PAGE = 24;
var FOUND = 16;
var PAUSE3 = 250;
var EMPTY = { pairs: (
  /** @type {any[]} */
  []
), more: false, total: null, nothing: null, problem: "", busy: true };
function Knowledge() {
  const [query, setQuery] = G("");
  const [state, setState] = G(EMPTY);
  const [isAdding, setAdding] = G(false);
  const [removed, setRemoved] = G(
    /** @type {any} */
    null
  );
  const latest = Q(0);
  const load = async (request) => {
    const number = ++latest.current;
    setState((before) => ({ ...before, busy: true, problem: "" }));
    try {
      const result = await request();
      if (number === latest.current) setState({ ...EMPTY, busy: false, ...result });
    } catch (error) {
      if (number === latest.current) setState({ ...EMPTY, busy: false, problem: error.message });
    }
  };
  const refresh = (text = query) => load(() => text.trim() ? find2(text) : browse([]));
  J(() => {
    const timer3 = setTimeout(refresh, query ? PAUSE3 : 0);
    return () => clearTimeout(timer3);
  }, [query]);
  const remove = async () => {
    try {
      const { uses } = await deletePair(removed.id);
      const kept = uses?.images ? ` Kept images that were drawn from it: ${uses.images}.` : "";
      notify(`“${removed.caption}” was removed. No search finds it any more.${kept}`);
      setState((before) => ({
        ...before,
        pairs: before.pairs.filter((one) => one.id !== removed.id),
        total: before.total && before.total - 1
      }));
      searchSoon(0);
    } catch (error) {
      notifyError(error);
    }
    setRemoved(null);
  };
  const { pairs, more, total, nothing, problem, busy } = state;
  return fe`<div class="knowledge">
    <div class="knowledge-head">
      <div>
        <h1>Knowledge base</h1>
        <p class="hint" role="status">${busy ? "Reading…" : count(query, pairs, total)}</p>
      </div>
      <input type="search" class="large" value=${query} maxlength="1000" placeholder="Search: a red fox" aria-label="Search the knowledge base"
        onInput=${(event) => setQuery(event.target.value)} />
      <button type="button" class="primary" onClick=${() => setAdding(true)}><${Icon} name="add" />Add an image</button>
    </div>
    ${problem && fe`<div class="empty" role="alert"><p>${problem}</p>
      <button type="button" class="quiet" onClick=${() => refresh()}>Try again</button></div>`}
    ${!problem && !busy && pairs.length === 0 && fe`<${Nothing} query=${query} nothing=${nothing} onAdd=${() => setAdding(true)} />`}
    ${nothing && pairs.length > 0 && fe`<p class="empty"><strong>No image is relevant.</strong> ${nothing.reason}. These are the nearest:</p>`}
    <ul class="pairs">
      ${pairs.map((pair) => fe`<${Pair} key=${pair.id} pair=${pair} onRemove=${() => setRemoved(pair)} />`)}
    </ul>
    ${more && fe`<div class="row center"><button type="button" class="quiet" disabled=${busy}
      onClick=${() => load(() => browse(pairs))}>Show more</button></div>`}
    ${isAdding && fe`<${AddPairDialog} onClose=${() => setAdding(false)} onAdded=${() => refresh()} />`}
    ${removed && fe`<${Dialog} title="Remove this image?" onClose=${() => setRemoved(null)}>
      <p>“${removed.caption}” is removed from the knowledge base for everyone who uses this service.</p>
      <div class="row end"><button type="button" class="danger" onClick=${remove}>Remove</button></div>
    <//>`}
  </div>`;
}
function Pair({ pair, onRemove }) {
  const use = () => {
    usePair(pair);
    location.hash = "#draw";
  };
  return fe`<li class="pair card">
    <${PairImage} id=${pair.id} alt=${pair.caption} />
    <div class="pair-text">
      <strong>${pair.caption}</strong>
      <span class="hint"><${Source} source=${pair.source} /></span>
      <span class="hint">${pair.license || "unknown license"} · ${pair.width} × ${pair.height}</span>
      <${Why} explanation=${pair.explanation} score=${pair.score} />
      <div class="row">
        <button type="button" class="text-button" aria-label=${`Draw from ${pair.caption}`} onClick=${use}>Draw from it</button>
        <button type="button" class="text-button" aria-label=${`Remove ${pair.caption}`} onClick=${onRemove}>Remove</button>
      </div>
    </div>
  </li>`;
}
function Nothing({ query, nothing, onAdd }) {
  return fe`<div class="empty">
    <p>${query.trim() ? fe`<strong>Nothing found.</strong> ${nothing?.reason ?? ""}` : fe`<strong>The knowledge base is empty.</strong>`}</p>
    <p class="hint">${query.trim() ? "Search for other words, or add an image of it." : "Add images, so that prompts can name them."}</p>
    <button type="button" class="quiet" onClick=${onAdd}>Add an image</button>
  </div>`;
}
async function browse(before) {
  const { data, has_more: more, total } = await listPairs({ limit: PAGE, after: before.at(-1)?.id });
  return { pairs: [...before, ...data], more, total };
}
async function find2(query) {
  const answer = await search({ query, k: FOUND, explain: true });
  const nothing = answer.nothing_found ?? null;
  const nearest = nothing ? (await search({ query, k: 4, explain: true, relevance: "any" })).neighbors : [];
  announce(nothing ? "Nothing relevant found." : `${plural(answer.neighbors.length, "image")} found.`);
  return { pairs: nothing ? nearest : answer.neighbors, nothing };
}
function count(query, pairs, total) {
  if (query.trim()) return pairs.length === FOUND ? `the best ${FOUND}` : `${plural(pairs.length, "image")} found`;
  return total === null ? "" : plural(total, "image");
}

// view/messages.js
function Messages() {
  const { shown, spoken } = useStore(notices);
  return fe`<div class="notices" role="region" aria-label="Messages">
      ${shown.map(
    ({ id, text, kind }) => fe`<div key=${id} class="notice ${kind}" role=${kind === "error" ? "alert" : "status"}>
          <span>${text}</span><${IconButton} icon="close" label="Close this message" onClick=${() => dismiss(id)} />
        </div>`
  )}
    </div>
    <div class="visually-hidden" role="status" aria-live="polite">${spoken}</div>`;
}
function ServiceDown() {
  const { status, message } = useStore(model);
  if (status !== "down") return null;
  return fe`<p class="banner" role="alert">${message} This page tries again by itself.</p>`;
}
function KeyDialog() {
  const { asking, reason, key } = useStore(session);
  const field = Q(
    /** @type {HTMLInputElement | null} */
    null
  );
  const lasting2 = Q(
    /** @type {HTMLInputElement | null} */
    null
  );
  if (!asking) return null;
  const submit = (event) => {
    event.preventDefault();
    const given = field.current?.value.trim();
    if (!given) return;
    useKey(given, lasting2.current?.checked ?? false);
    loadModel();
    searchSoon(0);
  };
  return fe`<${Dialog} title="API key" onClose=${() => session.set({ asking: false })}>
    <form class="stack" onSubmit=${submit}>
      <p>This service requires a key. Its operator makes keys with <code>reimagen-generator keys add</code>.</p>
      ${reason && fe`<p class="problem" role="alert">${reason}</p>`}
      <label>Key<input ref=${field} type="password" autocomplete="off" spellcheck="false" required /></label>
      <label class="check"><input ref=${lasting2} type="checkbox" /> Remember it on this device</label>
      <p class="hint">Otherwise it is forgotten when you close this tab. It is sent to this service only.</p>
      <div class="row end">
        ${key && fe`<button type="button" class="quiet" onClick=${() => useKey(null)}>Forget the key</button>`}
        <button class="primary">Use this key</button>
      </div>
    </form>
  <//>`;
}

// view/canvas.js
function Canvas({ drawing, large }) {
  const finished = useBlobUrl(drawing.image);
  const shown = finished || drawing.preview;
  const { status, title, label, taken } = drawing;
  const name = [taken.prompt, label || title].filter(Boolean).join(", ");
  return fe`<div class="canvas ${status} ${large ? "large" : ""}">
    ${large && shown && fe`<img class="glow" src=${shown} alt="" aria-hidden="true" />`}
    <div class="picture">
      ${!shown && fe`<${Grounds} drawing=${drawing} />`}
      ${shown && fe`<img class=${finished ? "final" : "preview"} src=${shown} alt=${finished ? name : `Preview: ${name}`} />`}
      ${(status === "failed" || status === "cancelled") && fe`<p class="failure">${status === "cancelled" ? "Cancelled" : drawing.error || "Drawing failed."}</p>`}
    </div>
    <${Progress} drawing=${drawing} />
  </div>`;
}
function Grounds({ drawing }) {
  const { taken, neighbors } = drawing;
  const own = taken.chosen && taken.settings.k !== 0 ? taken.neighbors : null;
  const shown = own ?? (neighbors ?? (taken.settings.k === 0 ? [] : taken.neighbors)).filter((one) => one.id);
  return fe`<div class="grounds" aria-hidden="true">
    ${shown.slice(0, 4).map(
    (one) => one.kind === "own" ? fe`<${BlobImage} blob=${one.image} />` : fe`<${PairImage} key=${one.id} id=${one.id} />`
  )}
  </div>`;
}
function Progress({ drawing }) {
  const { sizes } = useStore(model);
  const { status, progress, position, connection } = drawing;
  if (status !== "queued" && status !== "running") return null;
  const stages = sizes.filter((size) => !drawing.size || size <= drawing.size);
  const done = progress ? (progress.stage + progress.step / progress.steps) / Math.max(1, stages.length) : 0;
  return fe`<div class="progress">
    <progress max="1" value=${status === "queued" ? void 0 : done} aria-label="Progress"></progress>
    <span class="hint">${connection === "broken" ? "Connection lost. Going on as soon as it is back." : step(drawing, stages.length)}</span>
  </div>`;
}
function step({ status, progress, position }, stages) {
  if (status === "queued") return position ? `Place ${position} in the queue` : "In the queue";
  if (!progress) return "Looking up neighbors";
  return `Stage ${progress.stage + 1} of ${stages}, ${progress.size} px: step ${progress.step} of ${progress.steps}`;
}

// view/stage.js
function Stage() {
  const { all, shown, loaded } = useStore(drawings);
  const group = groupsOf(all).find((one) => one[0].group === shown);
  return fe`<section id="stage" class="stage" aria-label="Image">
    ${group ? fe`<${Group} group=${group} />` : loaded && fe`<${Nothing2} />`}
  </section>`;
}
function Group({ group }) {
  const [first] = group;
  const isOne = group.length === 1;
  return fe`<div class="group">
    ${!isOne && fe`<h2 class="group-title">${first.title}</h2>`}
    <div class=${isOne ? "single" : `strip count-${group.length}`}>
      ${group.map(
    (drawing) => fe`<figure key=${drawing.id}>
          <${Canvas} drawing=${drawing} large=${isOne} />
          <figcaption>
            ${isOne ? fe`<h2>${drawing.taken.prompt}</h2>` : fe`<span class="label">${drawing.label}</span>`}
            <${Actions} drawing=${drawing} isOne=${isOne} />
          </figcaption>
        </figure>`
  )}
    </div>
    ${!isOne && fe`<p class="group-prompt">${first.taken.prompt}</p>`}
    <${Grounding} group=${group} />
  </div>`;
}
function Actions({ drawing, isOne }) {
  const { image, taken, seed, label } = drawing;
  const name = `${slug(taken.prompt)}-${label ? `${slug(label)}-` : ""}${seed}.png`;
  const cancel = () => cancelDrawing(drawing.id).catch(notifyError);
  const reuse = () => {
    restore(exactly(drawing));
    notify("Prompt, seed, neighbors and settings are in the form.");
  };
  if (!isFinished(drawing)) return fe`<button type="button" class="quiet" onClick=${cancel}>Cancel</button>`;
  return fe`<div class="row">
    ${isOne && fe`<span class="meta">seed ${seed}</span>`}
    ${image && fe`<button type="button" class="quiet" aria-label=${`Download ${label}`} onClick=${() => download(image, name)}
      title="The file contains its prompt, seed and neighbors">
      <${Icon} name="download" />Download
    </button>`}
    <button type="button" class="quiet" aria-label=${`Use the settings of this image ${label}`} onClick=${reuse}>
      <${Icon} name="settings" />Use settings
    </button>
    ${isOne && fe`<button type="button" class="quiet" onClick=${() => draw("", [{ label: "", settings: { seed: null } }])}>
      <${Icon} name="refresh" />Another
    </button>`}
  </div>`;
}
function exactly({ taken, neighbors, seed }) {
  const settings = { ...taken.settings, seed };
  const found = neighbors?.filter((one) => one.id) ?? [];
  if (taken.chosen || settings.k === 0 || found.length === 0) return { ...taken, settings };
  return { ...taken, settings, neighbors: found.map(pairNeighbor), chosen: true };
}
function Grounding({ group }) {
  const grounded = group.find((one) => one.neighbors?.length > 0);
  if (!grounded) {
    const bare = group.find((one) => one.nothing);
    return bare ? fe`<div class="grounding"><p class="hint">No neighbors: ${bare.nothing.reason}.</p><${Refused} pairs=${refusedOf(bare)} /></div>` : null;
  }
  const own = grounded.taken.neighbors.filter((one) => one.kind === "own");
  return fe`<section class="grounding" aria-labelledby="grounding-title">
    <h3 id="grounding-title">Grounded on</h3>
    <ul>
      ${grounded.neighbors.map((neighbor, index) => {
    const chosen = grounded.taken.chosen ? grounded.taken.neighbors[index] : null;
    const id = neighbor.id ?? chosen?.id;
    const cut = neighbor.cut_out && chosen?.cutOut?.image;
    return fe`<li key=${id ?? index}>
          ${cut ? fe`<${BlobImage} blob=${cut} />` : id ? fe`<${PairImage} id=${id} />` : fe`<${BlobImage} blob=${(chosen ?? own[index])?.image} />`}
          <div><strong>${neighbor.caption}</strong>
            <span class="hint">${id ? fe`<${Source} source=${neighbor.source ?? chosen?.source} /> · ${(neighbor.license ?? chosen?.license) || "unknown license"}` : "your image"}${neighbor.cut_out && ", cut out"}</span>
            ${neighbor.warning && fe`<span class="hint">${sentence(neighbor.warning)}</span>`}</div>
        </li>`;
  })}
    </ul>
    <${Refused} pairs=${refusedOf(grounded)} />
  </section>`;
}
function refusedOf({ refused = [], taken }) {
  const found = [...taken.refused ?? [], ...taken.neighbors.filter((one) => one.kind === "pair")];
  return refused.map((pair) => ({ ...pair, caption: found.find(({ id }) => id === pair.id)?.caption ?? pair.id }));
}
function Nothing2() {
  const { pairs } = useStore(examples);
  return fe`<div class="welcome">
    <div class="mosaic" aria-hidden="true">
      ${pairs.slice(0, 12).map((pair) => fe`<${PairImage} key=${pair.id} id=${pair.id} />`)}
    </div>
    <h2>Say what to draw</h2>
    <p>The service looks up images that your prompt names, shows them to you, and draws from them. Change them as you like
      before you draw.</p>
    <p class="hint">Drop an image that was drawn here to get its prompt, seed, neighbors and settings back.</p>
  </div>`;
}

// app.js
var viewOf = () => location.hash === "#knowledge" ? "knowledge" : "draw";
function App() {
  const [view, setView] = G(viewOf());
  J(() => {
    const change2 = () => {
      setView(viewOf());
      scrollTo(0, 0);
    };
    addEventListener("hashchange", change2);
    return () => removeEventListener("hashchange", change2);
  }, []);
  return fe`<${Header} view=${view} />
    <main id="main" tabindex="-1">
      <${ServiceDown} />
      ${view === "knowledge" ? fe`<${Knowledge} />` : fe`<h1 class="visually-hidden">Draw</h1>
            <div class="draw">
              <${Compose} />
              <div class="results"><${Stage} /><${Queue} /><${History} /></div>
            </div>`}
    </main>
    <${DropZone} /><${KeyDialog} /><${Messages} />`;
}
function startWhenReady() {
  if (model.get().status !== "ready") return;
  stop();
  loadExamples();
  searchSoon(0);
}
M(fe`<${App} />`, document.getElementById("app"));
var stop = model.subscribe(startWhenReady);
loadModel();
loadHistory().then(startWatching);
