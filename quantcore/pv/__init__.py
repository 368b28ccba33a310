"""PV-tuning (arXiv:2405.14852): all of a quantized model learns from its original, codes included.

    minimize over codes, codebooks, scales and norms    mean over tokens of KL(original || student)

In reading order:

    descent      one step: who learns from whom, the rules, and the state that they change
    student      the quantized model, made to learn
    teacher      the original: its predictions, and what its layers see
    divergence   the KL of the two and its gradients, from hidden states
    recoding     new codes for the groups furthest from what the gradients ask for
    optimizers   Adam and LAMB, one tensor at a time
    loop         many steps: validation, the best state, going on after a stop
    folder       the whole: quantized model, original and text in, a better model out
"""
