"""KOALA-K in numpy, in the type of the parameters, from its definition: slow, and nothing but the formulas.

The filter of KOALA-D with a Kronecker-factored prior covariance for weight
matrices: P = sigma D, and for a matrix with the direction M = U S V^T

    D M = c (M M^T)^(-1/4) M (M^T M)^(-1/4) = c U V^T,  c = 0.2 sqrt(max(m, n))

For the other tensors D = diag(1/(sqrt(v) + eps)), v the bias-corrected running mean
of g^2, and M the bias-corrected running mean of g. A step is

    predict   sigma <- sigma + q
    R    <- alpha R + (1 - alpha) mean l^2, from the first mean square
    n2    = sum over all tensors of <G, D M>, not below 0
    S     = sigma n2 + R
    w    <- (1 - lr a decay) w - lr a D M,  a = sigma (L - L*)/S
    sigma <- sigma R/S
"""

import math

import numpy as np


def exact_orthogonal(m, _):
    """U V^T over the singular values above rounding; 0 for 0."""
    u, s, vt = np.linalg.svd(m, full_matrices=False)
    keep = s > 1e-12 * max(s[0], 1e-300)
    return u[:, keep] @ vt[keep]


def newton_schulz(m, h):
    """Muon's iteration: X <- a X + (b X X^T + c (X X^T)^2) X from M/|M|."""
    a, b, c = h["ns_coefficients"]
    x = m if m.shape[0] <= m.shape[1] else m.T
    x = x / max(np.linalg.norm(x), h["ns_eps"])
    for _ in range(h["ns_steps"]):
        xxt = x @ x.T
        x = a * x + (b * xxt + c * xxt @ xxt) @ x
    return x if m.shape[0] <= m.shape[1] else x.T


class KoalaK:
    """Steps params in place. splits[i] is the number of matrices that tensor i's rows
    hold, 0 where it is none. Settings h:

    target       L*
    q, q_power   a prediction adds q min(|G|, 1)^q_power to sigma, |G| being the norm of all gradients together
    innovation   signed: L - L*; positive: max(L - L*, 0)
    nesterov     M of a matrix is beta1 m + (1 - beta1) g, else m, with m <- beta1 m + (1 - beta1) g
    orthogonal   exact (SVD) or newton-schulz (ns_steps, ns_coefficients, ns_eps)
    n2           direction: <G, D M>; mean: <M, D M>; gradient: <G, D G>, c |G|_* for a matrix, D being that of G;
                 mixed: <G, D M> of matrices, <G, D G> of the rest;
                 frobenius: c sqrt(min(m, n)) |G|, the bound of c |G|_*, for matrices, <G, D G> for the rest
    """

    def __init__(self, params, splits, h):
        self.params, self.splits, self.h = params, splits, h
        self.sigma, self.r = h["sigma"], h["r"]
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]
        self.t = [0] * len(params)

    def drift(self, grads):
        norm = math.sqrt(sum(float(np.sum(g * g)) for g in grads if g is not None))
        return self.h["q"] * min(norm, 1.0) ** self.h["q_power"]

    def kronecker(self, m, matrices):
        orthogonal = exact_orthogonal if self.h["orthogonal"] == "exact" else newton_schulz
        blocks = np.split(m, matrices)
        return np.concatenate([0.2 * math.sqrt(max(b.shape)) * orthogonal(b, self.h) for b in blocks])

    def update(self, loss, mean_square, grads, factor=1.0):
        h = self.h
        b1, b2 = h["beta1"], h["beta2"]
        if h["r"] is None:
            self.r = mean_square if self.r is None else h["alpha_r"] * self.r + (1 - h["alpha_r"]) * mean_square
        n2, directions = 0.0, []
        for i, g in enumerate(grads):
            if g is None:
                directions.append(None)
                continue
            self.t[i] += 1
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            if self.splits[i]:
                m = b1 * self.m[i] + (1 - b1) * g if h["nesterov"] else self.m[i]
                d = self.kronecker(m, self.splits[i])
                if h["n2"] == "gradient":
                    n2 += float(np.sum(g * self.kronecker(g, self.splits[i])))
                elif h["n2"] == "frobenius":
                    n2 += sum(0.2 * math.sqrt(max(b.shape) * min(b.shape)) * float(np.linalg.norm(b)) for b in np.split(g, self.splits[i]))
                else:
                    n2 += float(np.sum((m if h["n2"] == "mean" else g) * d))
            else:
                self.v[i] = b2 * self.v[i] + (1 - b2) * g * g
                root = np.sqrt(self.v[i] / (1 - b2 ** self.t[i])) + h["eps"]
                m = self.m[i] / (1 - b1 ** self.t[i])
                d = m / root
                n2 += float(np.sum({"direction": g * d, "mean": m * d}.get(h["n2"], g * g / root)))
            directions.append(d)
        n2 = max(n2, 0.0)
        self.sigma += self.drift(grads)
        s = self.sigma * n2 + self.r
        innovation = loss - h["target"]
        if h["innovation"] == "positive":
            innovation = max(innovation, 0.0)
        rate = h["lr"] * factor * self.sigma * innovation / s
        for p, d in zip(self.params, directions):
            if d is not None:
                p *= 1 - rate * h["weight_decay"]
                p -= rate * d
        self.sigma = self.sigma * self.r / s
        return {"sigma": self.sigma, "r": self.r, "n2": n2, "rate": rate}
