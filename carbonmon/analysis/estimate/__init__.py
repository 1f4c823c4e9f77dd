"""Energy and carbon of a job from spec sheets: P = Σ count × TDP × utilisation, E = P × T.

Several parts add up (training and inference: E = E_t + E_r). Instead of the spec sheets' powers those of an
earlier, measured run may be taken; all of it is an estimate in any case.
"""
