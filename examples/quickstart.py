"""Two batches of logits, how far they are apart, row by row."""

import numpy as np

import kullback as kb

rng = np.random.default_rng(0)
teacher = rng.normal(size=(4, 50_000)) * 3
student = teacher + rng.normal(size=teacher.shape) * 0.1

print("KL(teacher‖student) in nats:", kb.kl_divergence(teacher, student, input="logits"))

both = kb.compare(teacher, student, top_k=(1, 10))
print("Jensen-Shannon divergence:  ", both["js"])
print("shared among the ten best:  ", both["overlap_10"])
